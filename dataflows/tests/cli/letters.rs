//! `dbb dead-letters`: listed, shown, exported, retried.

use super::*;

#[test]
fn dead_letters_are_listed_counted_and_shown() {
    let site = Site::new(SITE).with_dead_letters();
    let ended = site.dbb(&["dead-letters", "list", "site.yaml"]);
    assert_eq!((ended.status, ended.err.as_str()), (0, ""));
    assert_eq!(
        ended.out,
        "\
id  at                    repository  reason        file             why
 2  1970-01-01T00:00:02Z  main        bad_sidecar   raw:a/bad.fits   field `id` is missing
 1  1970-01-01T00:00:02Z  main        file_missing  raw:a/good.fits  `/a/good.fits` is not there
"
    );
    let ended = site.dbb(&["dead-letters", "list", "site.yaml", "--by", "reason"]);
    assert_eq!(
        ended.out,
        "reason        dead letters\nbad_sidecar              1\nfile_missing             1\n"
    );
    let ended = site.dbb(&[
        "dead-letters",
        "list",
        "site.yaml",
        "--reason",
        "bad_sidecar",
        "--json",
    ]);
    let letters: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(
        (letters.as_array().unwrap().len(), &letters[0]["id"]),
        (1, &2.into())
    );
    let ended = site.dbb(&["dead-letters", "show", "site.yaml", "1"]);
    assert!(
        ended
            .out
            .contains("{\"event_type\": \"transfer-done\", \"n\": 1}"),
        "{}",
        ended.out
    );
    assert_eq!(site.dbb(&["dead-letters", "show", "site.yaml", "99"]).status, 1);
    let ended = site.dbb(&["dead-letters", "list", "site.yaml", "--reason", "bad_sidcar"]);
    assert_eq!(ended.status, 2);
    assert!(ended.err.contains("did you mean `bad_sidecar`?"), "{}", ended.err);
}

#[test]
fn dead_letters_are_retried_by_number_reason_or_all() {
    let site = Site::new(SITE).with_dead_letters();
    assert_eq!(site.dbb(&["dead-letters", "retry", "site.yaml"]).status, 2);
    let ended = site.dbb(&["dead-letters", "retry", "site.yaml", "1"]);
    assert!(
        ended.out.starts_with("1 to be tried again"),
        "{}{}",
        ended.out,
        ended.err
    );
    let ended = site.dbb(&["dead-letters", "retry", "site.yaml", "1"]);
    assert_eq!(ended.status, 1);
    assert!(
        ended
            .err
            .starts_with("error: 1 of the numbers given are no dead letters"),
        "{}",
        ended.err
    );
    let ended = site.dbb(&["dead-letters", "retry", "site.yaml", "--reason", "bad_sidecar"]);
    assert!(ended.out.starts_with("1 to be tried again"), "{}", ended.out);
    let ended = site.dbb(&["dead-letters", "retry", "site.yaml", "--all"]);
    assert!(ended.out.starts_with("0 to be tried again"), "{}", ended.out);
    let ended = site.dbb(&["ledger", "summary", "site.yaml", "--json"]);
    let summary: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let expected = serde_json::json!([
        {"rse": "T_RAW_DISK", "repository": "main", "outcome": "waiting", "events": 2}
    ]);
    assert_eq!(summary["outcomes"], expected);
}

#[test]
fn exported_events_can_be_read_as_recorded_ones() {
    let site = Site::new(SITE).with_dead_letters();
    let ended = site.dbb(&["dead-letters", "export", "site.yaml", "--events"]);
    let line: serde_json::Value = serde_json::from_str(ended.out.lines().next().unwrap()).unwrap();
    assert_eq!(line["topic"], "T_RAW_DISK-raw");
    assert_eq!(line["value"], "{\"event_type\": \"transfer-done\", \"n\": 2}");
    fs::write(site.path().join("events/again.ndjson"), &ended.out).unwrap();
    let ended = site.dbb(&["check", "site.yaml", "events/again.ndjson"]);
    assert!(ended.out.contains("2 recorded events read"), "{}", ended.out);
    assert_eq!(
        site.dbb(&["dead-letters", "export", "site.yaml"])
            .out
            .lines()
            .count(),
        2
    );
}
