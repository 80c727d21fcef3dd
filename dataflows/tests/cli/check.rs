//! `dbb check`: ticks, crosses, and exit codes.

use super::*;
use dbb_test_services::{PgBouncer, PoolMode, Postgres};

#[test]
fn check_ticks_what_a_good_file_says() {
    let ended = Site::new(SITE).dbb(&["check", "site.yaml"]);
    assert_eq!((ended.status, ended.err.as_str()), (0, ""));
    assert_eq!(
        ended.out,
        "\
✓ configuration site.yaml
✓ source: files events
✓ ledger: sqlite:ledger.sqlite
✓ route: T_RAW_DISK-raw to main
✓ repository main: /no/such/repository
"
    );
}

#[test]
fn check_accepts_a_ctrl_ingestd_file_named_by_its_variable() {
    let site = Site::new(INGESTD);
    let ended = ended(site.command(&["check"]).env("CTRL_INGESTD_CONFIG", "site.yaml"));
    assert_eq!((ended.status, ended.err.as_str()), (0, ""));
    assert_eq!(
        ended.out,
        "\
✓ configuration site.yaml, a file of ctrl_ingestd
✓ source: Kafka at kafka.example.org:9092 as group ingestd, topics T_RAW_DISK-raw
✓ ledger: sqlite:dbb-ledger.sqlite
✓ route: T_RAW_DISK-raw to main
✓ repository main: /repo/main
"
    );
}

#[test]
fn check_of_recorded_events_lists_what_could_not_be_routed_with_a_place() {
    let site = Site::new(SITE);
    let url = "davs://dtn.example.org:443/raw_disk/raw/x.fits";
    let events = [
        event("T_RAW_DISK", "raw", url),
        event("T_RAW_DISK", "other", url),
        event("T_RAW_DISK", "other", url),
        event("T_RAW_DISK", "raw", "davs://elsewhere/x.fits"),
        "not an event".into(),
        r#"{"event_type": "deletion-done", "created_at": "2026-04-01 00:00:00", "payload": {}}"#.into(),
    ];
    fs::write(site.path().join("events/a.ndjson"), events.join("\n")).unwrap();
    let ended = site.dbb(&["check", "site.yaml", "events/a.ndjson"]);
    assert_eq!(ended.status, 1, "{}{}", ended.out, ended.err);
    let lines: Vec<_> = ended.out.lines().skip(5).collect();
    assert_eq!(
        lines[..3],
        [
            "✓ 6 recorded events read",
            "✓ 1 go to main",
            "  1 not for us: other_event_type"
        ]
    );
    assert!(
        lines[3].starts_with("✗ 1 unreadable, as at events/a.ndjson:5: "),
        "{lines:?}"
    );
    let unmapped =
        "✗ 2 unmapped, as at events/a.ndjson:2: no route for files of scope `other` on RSE `T_RAW_DISK`";
    assert_eq!(lines[4], unmapped);
    assert!(
        lines[5].starts_with("✗ 1 unknown_prefix, as at events/a.ndjson:4: "),
        "{lines:?}"
    );
}

#[test]
fn check_of_what_does_not_answer_ends_with_69() {
    let site = Site::new(&SITE.replace("sqlite:ledger.sqlite", "postgres://me@127.0.0.1:1/ledger"));
    let ended = site.dbb(&["check", "site.yaml", "--connect"]);
    assert_eq!(ended.status, 69, "{}{}", ended.out, ended.err);
    assert!(
        ended
            .out
            .contains("✗ ledger postgres://me@127.0.0.1:1/ledger: the ledger"),
        "{}",
        ended.out
    );
    // It goes on after what is wrong.
    assert!(
        ended
            .out
            .contains("✗ repository main: could not start the Butler worker"),
        "{}",
        ended.out
    );
    assert!(
        ended.out.contains("hint: set worker.command of the repository"),
        "{}",
        ended.out
    );
}

#[test]
fn check_of_what_someone_must_change_ends_with_1() {
    let ended = Site::new(SITE).dbb(&["check", "site.yaml", "--connect"]);
    assert_eq!(ended.status, 1, "{}{}", ended.out, ended.err);
    assert!(
        ended
            .out
            .contains("✓ ledger sqlite:ledger.sqlite is to be made at the first run\n"),
        "{}",
        ended.out
    );
}

#[test]
fn check_tells_of_poolers_and_of_an_outbox_that_rucio_may_never_write_to() {
    let postgres = Postgres::shared().unwrap();
    postgres.create_database("checked").unwrap();
    let table = "CREATE TABLE messages (id uuid, event_type text, payload text, payload_nolimit text, services text, \
                 created_at timestamp)";
    postgres.sql("checked", table).unwrap();
    let check = |url: &str| {
        let source = format!("{{outbox: {{url: \"{url}\", service: Syslog}}}}");
        let site = SITE.replace("{log: {paths: [events]}}", &source);
        let ended =
            Site::new(&site.replace("sqlite:ledger.sqlite", url)).dbb(&["check", "site.yaml", "--connect"]);
        // The Butler is not there.
        assert_eq!(ended.status, 1, "{}{}", ended.out, ended.err);
        ended.out
    };
    let out = check(&postgres.url("checked"));
    for line in [
        "✓ the outbox has 0 rows for service Syslog\n  its server is reached directly\n",
        "! no row of service `Syslog` was ever seen: whether Rucio writes any, only a row can prove; SYSLOG is known",
        "dead letters\n  its server is reached directly\n",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    let row = "INSERT INTO messages VALUES (gen_random_uuid(), 'CLOSE', '{}', NULL, 'Syslog', now())";
    postgres.sql("checked", row).unwrap();
    let out = check(&postgres.url("checked"));
    assert!(
        out.contains("✓ the outbox has 1 rows for service Syslog"),
        "{out}"
    );
    assert!(!out.contains("was ever seen"), "{out}");

    let pooler = PgBouncer::start(postgres, PoolMode::Session).unwrap();
    let out = check(&pooler.url("checked"));
    let told = out
        .matches("it is reached through a pooler, which keeps sessions")
        .count();
    assert_eq!(told, 2, "{out}");
    let pooler = PgBouncer::start(postgres, PoolMode::Transaction).unwrap();
    let out = check(&pooler.url("checked"));
    assert_eq!(out.matches("connect directly").count(), 2, "{out}");
}
