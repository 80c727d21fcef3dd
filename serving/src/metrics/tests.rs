#![allow(clippy::unwrap_used)]
use super::*;
use bytes::Bytes;
use dbb_events::{Action, Class, Did, EventId, Kind, Place, Reason, Refusal, Request, Rse, Verified};

fn settled(outcome: Outcome) -> Settled {
    let request = Request {
        event: EventId(1),
        target: "main".into(),
        place: Place {
            stream: "T".into(),
            partition: 0,
            offset: 7,
            line: None,
        },
        event_type: "transfer-done".into(),
        did: Did::new("raw", "secret/name.fits"),
        rse: Rse::new("IN2P3_RAW_DISK"),
        action: Action::Register(Kind::RawFile),
        created_at: Micros(12_000_000),
        url: "davs://h/secret/name.fits".into(),
        uri: "/secret/name.fits".into(),
        sidecar: "{}".into(),
        bytes: None,
        adler32: None,
        landed_at: Some(Micros(10_000_000)),
        appended_at: Some(Micros(12_500_000)),
        read_at: Micros(12_600_000),
        attempts: 0,
        waiting_since: None,
        was_unrouted: false,
        topic: None,
        body: Bytes::new(),
    };
    let at = Micros(13_000_000);
    Settled {
        request,
        outcome,
        at,
        took: None,
        uuids: Vec::new(),
        verified: Verified::Size,
        provides: Vec::new(),
    }
}

/// What a hub tells: published, held, unexpected, looked up.
fn of_a_hub(metrics: &Metrics) {
    let request = settled(Outcome::Published).request;
    let sent = Sent {
        outgoing: Outgoing {
            event: request.event,
            place: request.place,
            event_type: request.event_type,
            did: request.did,
            rse: request.rse,
            url: Some(request.url),
            source_url: None,
            dataset: None,
            class: Class::Landed,
            labelled: false,
            topic: "IN2P3_RAW_DISK-raw".into(),
            created_at: request.created_at,
            landed_at: None,
            appended_at: None,
            read_at: request.read_at,
            again: None,
            body: Bytes::new(),
            source: Bytes::new(),
        },
        outcome: Outcome::Waiting {
            dependency: Dependency::Embargo,
            not_before: Micros(0),
            detail: "x".into(),
            counts: false,
        },
        at: request.read_at,
    };
    metrics.sent(&sent);
    metrics.unexpected(&sent.outgoing, "tracts");
    metrics.publishing(&Publishing {
        published: [(("IN2P3_RAW_DISK-raw".into(), Class::Landed), 12)].into(),
        ..Publishing::default()
    });
    metrics.looked_up(&LookedUp {
        requests: (3, 1),
        ..LookedUp::default()
    });
}

/// One of everything.
fn full() -> Metrics {
    // These are of the whole process.
    let refusal = crate::labels::Refusal {
        door: "sql",
        reason: "silent",
    };
    crate::doors::refused().get_or_create(&refusal).inc();
    let door = crate::labels::Door { door: "sql" };
    crate::panics::caught().get_or_create(&door).inc();
    let metrics = Metrics::new("1.2.3");
    of_a_hub(&metrics);
    let name: Arc<str> = "main".into();
    metrics.received(&"T".into(), 3);
    metrics.settled(&settled(Outcome::Ingested));
    metrics.settled(&settled(Outcome::Refused(Refusal {
        reason: Reason::FileMissing,
        detail: "x".into(),
    })));
    metrics.not_for_us(&"event_type".into(), 5);
    metrics.repeats(1);
    metrics.consumer_lag(&"T".into(), 2, 9);
    metrics.waiting("dimension", 4, 61.5);
    metrics.progress(8, Duration::from_millis(1500));
    metrics.butler_call(&name, 50, Duration::from_millis(80));
    metrics.worker_restarted(&name);
    metrics.ledger_written(Duration::from_millis(2));
    metrics.ledger_size(4096);
    metrics.broker(&"stomp.example.org:61613".into(), true);
    metrics.missing(&"T/2".into(), "asked", 2, 17);
    metrics.gap_records("missed", 17);
    metrics.asked(2);
    metrics.told(&"ingested".into());
    metrics.bad_headers(1);
    metrics.findings("log_went_back", 2);
    metrics.question("sql", "answered", Duration::from_millis(3));
    metrics.rows_sent("sql", 7);
    metrics.connections("sql", 1);
    metrics.turned_away("http", "idle");
    for written in [2, 3] {
        let at = Checkpointed {
            newest: Some((3000, Micros(1_000_000))),
            size: (100, 5),
            written,
            ..Checkpointed::default()
        };
        metrics.checkpoints(Micros(3_500_000), &at);
    }
    metrics
}

#[test]
fn what_happens_is_what_is_counted() {
    let page = full().encode();
    for line in [
        "dbb_received_records_total{stream=\"T\"} 3",
        "dbb_outcomes_total{repository=\"main\",rse=\"IN2P3_RAW_DISK\",kind=\"raw_file\",outcome=\"ingested\"} 1",
        "dbb_dead_letters_total{reason=\"file_missing\"} 1",
        "dbb_not_for_us_records_total{reason=\"event_type\"} 5",
        "dbb_consumer_lag_records{topic=\"T\",partition=\"2\"} 9",
        "dbb_waiting_events{dependency=\"dimension\"} 4",
        "dbb_oldest_waiting_seconds{dependency=\"dimension\"} 61.5",
        "dbb_in_flight_events 8",
        "dbb_oldest_epoch_seconds 1.5",
        "dbb_batch_datasets_bucket{le=\"50.0\",repository=\"main\"} 1",
        "dbb_butler_call_seconds_count{repository=\"main\"} 1",
        "dbb_ledger_size_bytes 4096",
        "dbb_missing_records{lane=\"T/2\",state=\"asked\"} 17",
        "dbb_gaps{lane=\"T/2\",state=\"asked\"} 2",
        "dbb_gap_records_total{what=\"missed\"} 17",
        "dbb_resend_requests_total 2",
        "dbb_outcome_messages_total{outcome=\"ingested\"} 1",
        "dbb_checkpoints_total 3",
        "dbb_checkpoint_epoch 3000",
        "dbb_checkpoint_age_seconds 2.5",
        "dbb_checkpoint_size_bytes 100",
        "dbb_checkpoint_state_rows 5",
        "dbb_stage_seconds_sum{stage=\"landed_to_created\"} 2.0",
        "dbb_stage_seconds_sum{stage=\"created_to_appended\"} 0.5",
        "dbb_stage_seconds_sum{stage=\"appended_to_read\"} 0.1",
        "dbb_stage_seconds_sum{stage=\"read_to_settled\"} 0.4",
        "dbb_stage_seconds_sum{stage=\"landed_to_settled\"} 3.0",
        "dbb_published_records_total{topic=\"IN2P3_RAW_DISK-raw\",class=\"landed\"} 12",
        "dbb_unpublished_records_total{reason=\"embargo\"} 1",
        "dbb_unexpected_files_total{rse=\"IN2P3_RAW_DISK\",policy=\"tracts\"} 1",
        "dbb_rucio_failed_requests_total 1",
        "dbb_build_info{version=\"1.2.3\"} 1",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
    }
}

#[test]
fn a_file_has_no_place_in_a_label() {
    let metrics = full();
    metrics.received(&"/data/secret/events.ndjson".into(), 2);
    let page = metrics.encode();
    assert!(!page.contains("secret"), "{page}");
    assert!(
        page.contains("dbb_received_records_total{stream=\"files\"} 2"),
        "{page}"
    );
}

#[test]
fn an_event_that_has_waited_counts_only_its_whole_way() {
    let metrics = Metrics::default();
    let mut settled = settled(Outcome::Ingested);
    settled.request.waiting_since = Some(Micros(11_000_000));
    metrics.settled(&settled);
    let page = metrics.encode();
    assert!(
        page.contains("stage=\"landed_to_settled\"") && !page.contains("stage=\"read_to_settled\""),
        "{page}"
    );
}

#[test]
fn clocks_that_disagree_make_no_negative_time() {
    let metrics = Metrics::default();
    let mut settled = settled(Outcome::Ingested);
    settled.request.landed_at = Some(Micros(99_000_000));
    metrics.settled(&settled);
    assert!(
        metrics
            .encode()
            .contains("dbb_stage_seconds_sum{stage=\"landed_to_created\"} 0.0")
    );
}

#[test]
fn everything_that_is_described_is_shown_and_everything_shown_is_described() {
    let metrics = full();
    let page = metrics.encode();
    for described in metrics.catalog().described() {
        let series = match described.form {
            Form::Histogram => format!("{}_count", described.name),
            _ => described.name.clone(),
        };
        let line = page.lines().find(|l| l.split(['{', ' ']).next() == Some(&series));
        let line = line.unwrap_or_else(|| panic!("{series} is not in\n{page}"));
        for label in described.labels {
            assert!(line.contains(&format!("{label}=\"")), "{line} has no {label}");
        }
    }
    let shown = page.lines().filter(|l| l.starts_with("# TYPE ")).count();
    assert_eq!(shown, metrics.catalog().described().len());
}

/// `UPDATE_DOCS=1 cargo test -p dbb-serving` writes the page.
#[test]
fn the_page_of_metrics_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let page = Metrics::default().catalog().markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == page,
        "docs/metrics.md is stale: run UPDATE_DOCS=1 cargo test -p dbb-serving"
    );
}
