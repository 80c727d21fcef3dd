//! `soak`: a broker, a stream of events at a steady rate, `dbb run` with all views, and clients that ask in SQL.
//!
//! ```text
//!   stream --> Kafka --> dbb run --> SQL <-- clients: is each answer the fold of the offsets it names? how old is it?
//! ```
//!
//! Wrong answers end it with 1; with `--assert-age`, answers older than a second too. What it measured is printed:
//! the age of epochs, the time from an append to the first answer with it, memory, records.

mod clients;
mod stream;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use clients::{Measured, Window};
use dbb_test_services::{Kafka, Program, free_port, scratch, wait_until};
use std::{
    env, fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use stream::Stream;

/// A broker, a stream of events at a steady rate, `dbb run` with views, and clients that ask in SQL. It ends with 1 when an
/// answer was wrong.
#[derive(Parser)]
struct Options {
    /// How long, in seconds.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Events a second.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// Clients that ask all the time.
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// Timely workers.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// End with 1, too, when an answer was older than a second.
    #[arg(long)]
    assert_age: bool,
    /// Names of views, with commas.
    #[arg(long, default_value = "all")]
    views: String,
    /// The program; by default the `dbb_under_test` beside this one.
    #[arg(long)]
    dbb: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let program = match &options.dbb {
        Some(program) => program.clone(),
        None => env::current_exe()?.with_file_name("dbb_under_test"),
    };
    let kafka = Kafka::start()?;
    kafka.create_topic(stream::TOPIC, stream::PARTITIONS as i32)?;
    let folder = scratch("soak")?;
    let (sql, http) = (
        format!("127.0.0.1:{}", free_port()?),
        format!("127.0.0.1:{}", free_port()?),
    );
    let config = folder.path().join("dbb.yaml");
    fs::write(
        &config,
        format!(
            "source: {{kafka: {{brokers: [\"{}\"], group_id: soak, topics: [{}]}}}}\n\
             ledger: {{url: \"sqlite:{}\"}}\n\
             workers: {}\n\
             views: {{keep: [{}], forget_after_seconds: 20}}\n\
             identify: {{remember_seconds: 10}}\n\
             limits: {{max_in_flight_events: 20000}}\n\
             sql: {{listen: \"{sql}\"}}\n\
             http: {{listen: \"{http}\"}}\n",
            kafka.bootstrap(),
            stream::TOPIC,
            folder.path().join("ledger.sqlite").display(),
            options.workers,
            options.views,
        ),
    )?;
    let mut dbb = Program::new(&program, folder.path().join("dbb.log"))
        .arg("run")
        .arg(&config)
        .start()?;
    wait_until("dbb answers SQL", Duration::from_secs(60), || {
        dbb.ensure_running()?;
        Ok(clients::is_answered(&sql))
    })?;

    let stream = Arc::new(Stream::default());
    let stop = Arc::new(AtomicBool::new(false));
    let asking: Vec<_> = (0..options.clients.max(1))
        .map(|number| {
            let (sql, stream, stop) = (sql.clone(), Arc::clone(&stream), Arc::clone(&stop));
            thread::spawn(move || clients::ask(number, &sql, &stream, &stop))
        })
        .collect();
    let sending = {
        let (stream, stop, bootstrap) = (Arc::clone(&stream), Arc::clone(&stop), kafka.bootstrap());
        thread::spawn(move || stream::send(&stream, &bootstrap, options.rate, &stop))
    };

    let begun = Instant::now();
    let mut memory = Vec::new();
    while begun.elapsed() < Duration::from_secs(options.seconds) {
        thread::sleep(Duration::from_secs(1));
        dbb.ensure_running()?;
        ensure!(!sending.is_finished(), "the stream has ended");
        memory.push(resident_mib(dbb.id())?);
    }
    stop.store(true, Relaxed);
    let sent = sending
        .join()
        .map_err(|_| anyhow::anyhow!("the stream panicked"))??;
    let mut measured = Measured::default();
    for client in asking {
        measured.add(
            client
                .join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))??,
        );
    }
    let elapsed = begun.elapsed();
    dbb.signal("TERM")?;
    dbb.wait()?;
    report(&options, sent, elapsed, &memory, measured)
}

fn report(
    options: &Options,
    sent: u64,
    elapsed: Duration,
    memory: &[u64],
    mut measured: Measured,
) -> Result<()> {
    let rate = sent as f64 / elapsed.as_secs_f64();
    println!(
        "{sent} events in {:.0} s, {rate:.0} a second (asked for: {})",
        elapsed.as_secs_f64(),
        options.rate
    );
    println!(
        "{} answers, {} wrong; {} rows in the last one of replicas",
        measured.answers,
        measured.wrong.len(),
        measured.rows
    );
    let ages = Window::of(&mut measured.ages_ms);
    println!("age of epochs when answered, ms: {ages}");
    let latencies = Window::of(&mut measured.latencies_ms);
    println!("from append to the first answer with it, ms: {latencies}");
    // Tombstones go after 20 s, what is known of repeats after 20 s: then memory is what it stays.
    let warm = memory.len().min(60).max(memory.len() / 4);
    let (before, after) = (memory.get(..warm), memory.get(warm..));
    let peak = |part: Option<&[u64]>| part.and_then(|part| part.iter().max()).copied().unwrap_or(0);
    println!(
        "memory of dbb, MiB: {} at most while warming up ({warm} s), {} at most after, {} at the end",
        peak(before),
        peak(after),
        memory.last().copied().unwrap_or(0),
    );
    let steps = memory.iter().step_by((memory.len() / 10).max(1));
    let over_time: Vec<String> = steps.map(u64::to_string).collect();
    println!("over time: {}", over_time.join(", "));
    for wrong in measured.wrong.iter().take(5) {
        println!("wrong: {wrong}");
    }
    ensure!(
        measured.wrong.is_empty(),
        "{} answers were wrong",
        measured.wrong.len()
    );
    ensure!(measured.answers > 0, "nothing was answered");
    ensure!(
        !options.assert_age || ages.most < 1000,
        "an epoch was {} ms old when it was answered",
        ages.most
    );
    Ok(())
}

fn resident_mib(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().next())
        .context("no VmRSS")?
        .parse()?;
    Ok(kib / 1024)
}
