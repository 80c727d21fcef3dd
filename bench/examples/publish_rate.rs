//! How many records a second a hub publishes, with and without the sent log, on what processor time of its own.
//!
//!     cargo run --release -p dbb-bench --example publish_rate -- [RECORDS] [BATCH]
//!
//! The broker is on the same machine; its processor time is not ours, but its load is felt.

use anyhow::{Context, Result};
use dbb_events::{Class, Did, EventId, Micros, Outgoing, Place, Rse};
use dbb_sinks::topics::{SentLogSettings, Share, TopicsSettings, TopicsSink};
use dbb_test_services::{Kafka, scratch};
use std::{fmt::Write as _, sync::Arc, time::Instant};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |or: u64| {
        arguments
            .next()
            .map_or(Ok(or), |text| text.parse())
            .context("a number")
    };
    let (records, batch) = (number(1_000_000)?, number(20_000)?);
    let kafka = Kafka::start()?;
    let folder = scratch("sent")?;
    for (name, log) in [("plain", false), ("kept", true)] {
        let mut settings = TopicsSettings::of(kafka.bootstrap());
        settings.requests = None;
        settings.sent_log = log.then(|| SentLogSettings::of(folder.path()));
        let mut sink = TopicsSink::open(&settings, &[], Share::default(), Arc::default())?;
        // Lanes are opened, and everything is warm.
        sink.deliver(events(name, 0, batch))?;
        let (mut delivering, mut own, mut slowest) = (0.0, 0.0, 0.0_f64);
        let mut from = batch;
        while from < records + batch {
            let events = events(name, from, batch);
            let (begun, used) = (Instant::now(), processor_seconds()?);
            sink.deliver(events)?;
            let took = begun.elapsed().as_secs_f64();
            delivering += took;
            slowest = slowest.max(took);
            own += processor_seconds()? - used;
            from += batch;
        }
        let published = (from - batch) as f64;
        println!(
            "{name}: {:.0} records/s, {:.2} processor seconds for 100,000, slowest batch {slowest:.3} s, sent log {:.0} bytes a record",
            published / delivering,
            own / published * 1e5,
            sink.figures().snapshot().sent_log_bytes as f64 / (published + batch as f64),
        );
    }
    Ok(())
}

/// Three topics, as a night has them: much that landed, some that is gone.
fn events(name: &str, from: u64, count: u64) -> Vec<Outgoing> {
    let topics: Vec<Arc<str>> = ["raw", "dp2", "raw-deletions"]
        .iter()
        .map(|scope| format!("{name}-{scope}").into())
        .collect();
    (from..from + count)
        .map(|n| event(&topics[(n % 5 / 2) as usize], n))
        .collect()
}

/// About 1 kB, of which much is different in each, as in recorded events.
fn event(topic: &Arc<str>, n: u64) -> Outgoing {
    let id = EventId(u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834));
    let name = format!("LSSTCam/20260401/MC_O_20260401_{n:08}/MC_O_20260401_{n:08}_R32_S22.fits");
    let mut body = format!(
        r#"{{"event_type":"transfer-done","payload":{{"activity":"production","request-id":"{id}","checksum-adler":"{:08x}","scope":"raw","name":"{name}","dst-rse":"SLAC_RAW","dst-url":"davs://sdfdtn005.slac.stanford.edu:1094//rucio/raw/{name}","transfer-id":"{id}""#,
        id.0 as u32
    );
    while body.len() < 950 {
        let _ = write!(
            body,
            r#","label_{}":"{:x}""#,
            body.len(),
            id.0 >> (body.len() % 64)
        );
    }
    body.push_str(r#"},"created_at":"2026-04-01 20:00:00.123456"}"#);
    Outgoing {
        event: id,
        place: Place {
            stream: "rucio".into(),
            partition: 0,
            offset: n,
            line: None,
        },
        event_type: "transfer-done".into(),
        did: Did::new("raw", name),
        rse: Rse::new("SLAC_RAW"),
        url: None,
        source_url: None,
        dataset: None,
        class: Class::Landed,
        labelled: true,
        topic: topic.clone(),
        created_at: Micros(0),
        landed_at: None,
        appended_at: None,
        read_at: Micros(0),
        again: None,
        source: Default::default(),
        body: body.into(),
    }
}

/// What this process has used, in seconds.
fn processor_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let after = text.rsplit(") ").next().context("no stat")?;
    let mut fields = after.split(' ').skip(11);
    let mut ticks = || -> Result<f64> { Ok(fields.next().context("no time")?.parse()?) };
    Ok((ticks()? + ticks()?) / 100.0)
}
