//! Facts of captured events, one of each type, and the same whichever way they are read.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use dbb_events::{EventId, Micros, decode, glimpse, scan};
use dbb_operators::{
    facts::{
        AtSite, Attempt, Basis, Change, DatasetName, DidKey, FailureClass, Lost, OutcomeName, RepositoryName,
        RseName, RuleSaid, RuleWord, Said, ScopeName, SiteOutcome, State, Step, Told, UNKNOWN_MS, Wanted,
    },
    tell::{Teller, Untold},
};
use proptest::prelude::*;
use std::{collections::BTreeMap, fs::File, io::Read, sync::OnceLock};

const ALL: Wanted = Wanted {
    changes: true,
    names: true,
    attempts: true,
    said: true,
};

fn told(body: &str) -> (Told, Result<(), Untold>) {
    told_of(ALL, body)
}

fn told_of(wanted: Wanted, body: &str) -> (Told, Result<(), Untold>) {
    let mut told = Told::default();
    let result = glimpse(body.as_bytes(), |glimpse| {
        Teller::new(wanted).tell(glimpse, body.as_bytes(), &mut told)
    });
    (told, result.unwrap())
}

fn identity(body: &str) -> EventId {
    decode(body.as_bytes()).unwrap().identity(body.as_bytes())
}

fn at(text: &str) -> Micros {
    Micros::parse(text).unwrap()
}

fn night(name: &str) -> Vec<String> {
    let path = format!(
        "{}/../tests/data/rucio-events/night-{name}.ndjson.gz",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut text = String::new();
    flate2::read::GzDecoder::new(File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    text.lines().map(str::to_owned).collect()
}

const DONE: &str = r#"{"event_type": "transfer-done", "payload": {"activity": "Data Consolidation", "request-id": "8ae5f8f32afe4b509d782023a030fd8a", "duration": 5, "checksum-adler": "a89a1ad4", "checksum-md5": "f23d02decc99dffe92f3606883bf0110", "file-size": 20957327, "bytes": 20957327, "guid": null, "previous-request-id": null, "protocol": "davs", "scope": "raw", "name": "LSSTCam/20260401/MC_O_20260401_000001/MC_O_20260401_000001_R32_S22.fits", "dataset": "LSSTCam/20260401/group-00001", "datasetScope": "raw", "src-type": "DISK", "src-rse": "SLAC_RAW_DISK", "src-url": "davs://dtn-slac.example.org:443/rucio/raw_disk/raw/LSSTCam/20260401/MC_O_20260401_000001/MC_O_20260401_000001_R32_S22.fits", "dst-type": "DISK", "dst-rse": "RAL_RAW_DISK", "dst-url": "davs://dtn-ral.example.org:443/rucio/raw_disk/raw/LSSTCam/20260401/MC_O_20260401_000001/MC_O_20260401_000001_R32_S22.fits", "reason": "", "transfer-endpoint": "http://fts.example.org:8446", "transfer-id": "aa8b230f-3b05-1392-a6ea-1c0d2f8b9e9d", "transfer-link": null, "created_at": "2026-11-21 19:14:45.688607", "submitted_at": "2026-11-21 19:14:49.403038", "started_at": "2026-11-21 19:14:44", "transferred_at": "2026-11-21 19:14:49", "tool-id": "rucio-conveyor", "account": "lsstsvc1", "datatype": null, "transfer_link": "http://fts.example.org:8449/fts3/ftsmon/#/job/aa8b230f-3b05-1392-a6ea-1c0d2f8b9e9d"}, "created_at": "2026-11-21 19:14:49.938629"}"#;
const DONE_NAME: &str = "LSSTCam/20260401/MC_O_20260401_000001/MC_O_20260401_000001_R32_S22.fits";

const QUEUED: &str = r#"{"event_type": "transfer-queued", "payload": {"request-id": "26a3be73c2e14dfea72d33b59f30fead", "request-type": "transfer", "scope": "raw", "name": "LSSTCam/20260401/MC_O_20260401_000001/MC_O_20260401_000001_R01_S10.fits", "dst-rse-id": "0fb5bfae47d4424fab4f40e3535bab12", "dst-rse": "IN2P3_RAW_DISK", "state": "queued", "retry-count": null, "rule-id": "3864ebd3969c462eb453193cb6065d92", "activity": "Data Consolidation", "file-size": 19358797, "bytes": 19358797, "checksum-md5": "5f75b5427dcc9d6a56e609a51a170b46", "checksum-adler": "f97a1396", "queued_at": "2026-11-21 19:14:44.739574"}, "created_at": "2026-11-21 19:14:44.910623"}"#;

const DELETION_FAILED: &str = r#"{"event_type": "deletion-failed", "payload": {"scope": "raw", "name": "a.fits", "rse": "IN2P3_RAW_DISK", "file-size": 18644736, "bytes": 18644736, "url": "davs://dtn-in2p3.example.org:443/rucio/raw_disk/raw/a.fits", "protocol": "davs", "datatype": null, "reason": "The requested service is not available at the moment.\nDetails: DavPosix::unlink  HTTP 503 : Service Unavailable", "duration": 2.5630000436649425e-05}, "created_at": "2026-11-21 19:15:52.415125"}"#;

#[test]
fn a_landing_makes_the_replica_available_and_is_a_step_with_its_times() {
    let (told, result) = told(DONE);
    result.unwrap();
    let did = DidKey::new("raw", DONE_NAME);
    let (rse, scope) = (RseName::new("RAL_RAW_DISK"), ScopeName::new("raw"));
    let created = at("2026-11-21 19:14:49.938629");
    let change = Change {
        did,
        at: created,
        tie: identity(DONE).0 as u64,
        bytes: 20_957_327,
        rse: Some(rse),
        scope,
        adler32: 0xa89a_1ad4,
        state: State::Available,
        basis: Basis::Event,
    };
    assert_eq!(told.changes, [change]);
    assert_eq!(
        (told.names.len(), &*told.names[0].name, told.names[0].did),
        (1, DONE_NAME, did)
    );
    let attempt = Attempt {
        event: identity(DONE),
        did,
        scope,
        step: Step::Done,
        at: created,
        src: Some(RseName::new("SLAC_RAW_DISK")),
        rse,
        bytes: Some(20_957_327),
        dataset: Some(DatasetName::new("raw", "LSSTCam/20260401/group-00001")),
        rule: None,
        failure: None,
        waited_ms: 3714,
        // Started, by FTS's clock in whole seconds, before it was submitted by Rucio's.
        queued_ms: UNKNOWN_MS,
        ran_ms: 5000,
        noticed_ms: 938,
    };
    assert_eq!(told.attempts, [attempt]);
    assert!(told.said.is_empty() && told.completes.is_empty());
}

#[test]
fn a_request_makes_the_replica_copying_and_tells_its_rule() {
    let (told, result) = told(QUEUED);
    result.unwrap();
    assert_eq!(told.changes[0].state, State::Copying);
    let attempt = told.attempts[0];
    assert_eq!(attempt.step, Step::Queued);
    assert_eq!(attempt.rule, Some(0x3864_ebd3_969c_462e_b453_193c_b606_5d92));
    assert_eq!(
        (attempt.src, attempt.dataset, attempt.waited_ms),
        (None, None, UNKNOWN_MS)
    );
    let hyphens = QUEUED.replace(
        "3864ebd3969c462eb453193cb6065d92",
        "3864ebd3-969c-462e-b453-193cb6065d92",
    );
    assert_eq!(self::told(&hyphens).0.attempts[0].rule, attempt.rule);
}

#[test]
fn each_type_makes_of_the_replica_what_the_table_says() {
    let as_type = |body: &str, from: &str, to: &str| told(&body.replacen(from, to, 1)).0;
    for family in ["transfer", "stagein"] {
        for (state, step, change, failure) in [
            ("queued", Step::Queued, Some(State::Copying), None),
            ("preparing", Step::Queued, Some(State::Copying), None),
            ("submitted", Step::Submitted, None, None),
            (
                "submission_failed",
                Step::SubmissionFailed,
                None,
                Some(FailureClass::Refused),
            ),
            ("done", Step::Done, Some(State::Available), None),
            ("failed", Step::Failed, None, Some(FailureClass::NotTold)),
            ("lost", Step::Lost, None, Some(FailureClass::JobLost)),
        ] {
            let told = as_type(DONE, "transfer-done", &format!("{family}-{state}"));
            let states: Vec<State> = told.changes.iter().map(|change| change.state).collect();
            assert_eq!(states, Vec::from_iter(change), "{family}-{state}");
            assert_eq!(told.names.len(), states.len(), "{family}-{state}");
            let attempt = told.attempts[0];
            assert_eq!(
                (attempt.step, attempt.failure),
                (step, failure),
                "{family}-{state}"
            );
        }
    }
    for (word, step, change) in [
        ("deletion-done", Step::Deleted, State::Gone),
        ("deletion-not-found", Step::NotFound, State::Gone),
        ("deletion-failed", Step::DeletionFailed, State::BeingDeleted),
    ] {
        let told = as_type(DELETION_FAILED, "deletion-failed", word);
        assert_eq!(
            (told.changes[0].state, told.changes[0].bytes),
            (change, 18_644_736),
            "{word}"
        );
        assert_eq!(told.changes[0].rse, Some(RseName::new("IN2P3_RAW_DISK")));
        let attempt = told.attempts[0];
        assert_eq!(
            (attempt.step, attempt.rse),
            (step, RseName::new("IN2P3_RAW_DISK")),
            "{word}"
        );
        let failure = (step == Step::DeletionFailed).then_some(FailureClass::Unreachable);
        assert_eq!(attempt.failure, failure, "{word}");
    }
    for word in [
        "deletion-planned",
        "create_dts",
        "detach",
        "incomplete",
        "erase",
        "close",
        "open",
        "thrown",
    ] {
        assert_eq!(
            as_type(DELETION_FAILED, "deletion-failed", word),
            Told::default(),
            "{word}"
        );
    }
}

#[test]
fn a_dark_file_that_could_not_be_removed_is_no_replica() {
    let dark = DELETION_FAILED.replacen(
        "\"bytes\"",
        "\"rse_id\": \"0fb5bfae47d4424fab4f40e3535bab12\", \"bytes\"",
        1,
    );
    let (told, _) = told(&dark);
    assert!(told.changes.is_empty() && told.names.is_empty());
    assert_eq!(told.attempts[0].step, Step::DeletionFailed);
}

#[test]
fn lost_is_said_and_changes_every_replica() {
    let body = r#"{"event_type": "lost", "payload": {"scope": "dp", "name": "a.fits", "dataset_name": "Dataset/x", "dataset_scope": "dp"}, "created_at": "2026-11-21 19:15:51.021400"}"#;
    let (told, result) = told(body);
    result.unwrap();
    let change = told.changes[0];
    assert_eq!(
        (change.rse, change.state, change.bytes),
        (None, State::Unavailable, Change::NO_BYTES)
    );
    let lost = Lost {
        did: DidKey::new("dp", "a.fits"),
        scope: ScopeName::new("dp"),
        name: "a.fits".into(),
        dataset: Some(DatasetName::new("dp", "Dataset/x")),
        at: at("2026-11-21 19:15:51.021400"),
        event: identity(body),
    };
    assert_eq!(told.said, [Said::Lost(lost)]);
}

#[test]
fn rules_are_said() {
    for (word, more, wanted) in [
        ("rule_ok", "", RuleWord::Ok),
        ("RULE_PROGRESS", r#", "progress": 10"#, RuleWord::Progress(10)),
        (
            "datasetlock_ok",
            r#", "rse": "SLAC_RAW_DISK", "rse_id": "90c9""#,
            RuleWord::DatasetLockOk(RseName::new("SLAC_RAW_DISK")),
        ),
    ] {
        let body = format!(
            r#"{{"event_type": "{word}", "payload": {{"scope": "raw", "name": "d", "rule_id": "8c7369b6f0724464a9ff9a9a63e453ca"{more}}}, "created_at": "2026-11-21 19:14:44.027448"}}"#
        );
        let (told, result) = told(&body);
        result.unwrap();
        let said = RuleSaid {
            rule: 0x8c73_69b6_f072_4464_a9ff_9a9a_63e4_53ca,
            did: DatasetName::new("raw", "d"),
            at: at("2026-11-21 19:14:44.027448"),
            word: wanted,
            event: identity(&body),
        };
        assert_eq!(told.said, [Said::Rule(said)]);
        assert!(told.changes.is_empty() && told.attempts.is_empty());
    }
}

const OUTCOME: &str = r#"{"event_type": "dbb-outcome", "payload": {"scope": "raw", "name": "a.fits", "rse": "IN2P3_RAW_DISK", "repository": "main", "event": "transfer-done", "id": "0f", "version": "2026-11-21 19:14:44.027448", "outcome": "waiting", "reason": "dimension:exposure/LSSTCam/1"}, "created_at": "2026-11-21T19:14:45.000000Z"}"#;

#[test]
fn what_a_site_did_is_said() {
    let (told, result) = told(OUTCOME);
    result.unwrap();
    let said = SiteOutcome {
        of: AtSite {
            scope: ScopeName::new("raw"),
            name: "a.fits".into(),
            rse: RseName::new("IN2P3_RAW_DISK"),
            repository: RepositoryName::new("main"),
        },
        version: at("2026-11-21 19:14:44.027448"),
        at: at("2026-11-21 19:14:45"),
        outcome: OutcomeName::new("waiting"),
        reason: Some("dimension:exposure/LSSTCam/1".into()),
    };
    assert_eq!(told.said, [Said::Outcome(said)]);
    // What was passed over says nothing of the file: the newer event does.
    let passed_over = OUTCOME.replace("waiting", "superseded");
    assert_eq!(self::told(&passed_over), (Told::default(), Ok(())));
    for wrong in [
        OUTCOME.replace(r#""rse""#, r#""RSE""#),
        OUTCOME.replace("waiting", "Waiting for Godot"),
    ] {
        let error = self::told(&wrong).1.unwrap_err().to_string();
        assert!(error.starts_with("field `payload` is not an outcome"), "{error}");
    }
}

#[test]
fn what_cannot_be_told_is_named_and_the_rest_is_told() {
    let missing = |field| Err(Untold::Missing { field });
    for (field, key) in [
        ("payload.scope", "\"scope\""),
        ("payload.name", "\"name\""),
        ("payload.dst-rse", "\"dst-rse\""),
    ] {
        let (told, result) = told(&QUEUED.replacen(key, "\"other\"", 1));
        assert_eq!((told, result), (Told::default(), missing(field)));
    }
    let (told, result) = told(&QUEUED.replacen("3864ebd3969c", "no rule ", 1));
    assert_eq!(
        result.unwrap_err().to_string(),
        "field `payload.rule_id` is not a rule's id of 32 hexadecimal digits"
    );
    assert_eq!(
        (told.changes.len(), told.attempts.len(), told.attempts[0].rule),
        (1, 1, None)
    );
    let rule = r#"{"event_type":"rule_progress","payload":{"scope":"a","name":"b","progress":101,"rule_id":"8c7369b6f0724464a9ff9a9a63e453ca"},"created_at":"2026-11-21 19:14:44"}"#;
    assert_eq!(
        self::told(rule).1.unwrap_err().to_string(),
        "field `payload.progress` is not a percentage"
    );
    assert_eq!(
        self::told(&rule.replace("101", "null")).1,
        missing("payload.progress")
    );
    let no_rule = rule.replace("101", "1").replace("rule_id", "rule");
    assert_eq!(self::told(&no_rule).1, missing("payload.rule_id"));
}

#[test]
fn what_nobody_wants_is_not_made() {
    let none = Wanted::default();
    assert_eq!(told_of(none, DONE), (Told::default(), Ok(())));
    let changes = told_of(
        Wanted {
            changes: true,
            ..none
        },
        DONE,
    )
    .0;
    assert_eq!(
        (changes.changes.len(), changes.names.len(), changes.attempts.len()),
        (1, 0, 0)
    );
    let attempts = told_of(
        Wanted {
            attempts: true,
            ..none
        },
        DONE,
    )
    .0;
    assert_eq!(
        (
            attempts.changes.len(),
            attempts.names.len(),
            attempts.attempts.len()
        ),
        (0, 0, 1)
    );
    // Nor is anything missed of what nobody wants.
    let broken = QUEUED.replacen("\"scope\"", "\"other\"", 1);
    assert_eq!(
        told_of(Wanted { said: true, ..none }, &broken),
        (Told::default(), Ok(()))
    );
}

#[test]
fn a_file_is_named_once_until_names_are_forgotten() {
    let mut teller = Teller::new(ALL);
    let mut told = Told::default();
    let event = decode(DONE.as_bytes()).unwrap();
    for _ in 0..3 {
        teller.tell(&event.glimpse(), DONE.as_bytes(), &mut told).unwrap();
    }
    assert_eq!((told.changes.len(), told.names.len()), (3, 1));
    teller.forget_names();
    teller.tell(&event.glimpse(), DONE.as_bytes(), &mut told).unwrap();
    assert_eq!(told.names.len(), 2);
}

#[test]
fn times_backwards_are_unknown_and_long_ones_are_not() {
    let long = DONE
        .replace("19:14:45.688607", "19:14:50")
        .replace("2026-11-21 19:14:44\"", "2027-11-21 19:14:44\"");
    let attempt = told(&long).0.attempts[0];
    assert_eq!(
        (attempt.waited_ms, attempt.queued_ms, attempt.ran_ms),
        (UNKNOWN_MS, UNKNOWN_MS - 1, UNKNOWN_MS)
    );
}

/// The counts of the README of the captures, told by the words of the events alone.
#[test]
fn a_night_is_told_whole() {
    for name in ["a-events", "b-events", "c-events"] {
        let mut teller = Teller::new(ALL);
        let mut told = Told::default();
        let mut words: BTreeMap<String, usize> = BTreeMap::new();
        for line in night(name) {
            let event = decode(line.as_bytes()).unwrap();
            *words.entry(event.event_type.to_string()).or_default() += 1;
            teller.tell(&event.glimpse(), line.as_bytes(), &mut told).unwrap();
        }
        let count = |types: &[&str]| {
            types
                .iter()
                .map(|word| words.get(*word).copied().unwrap_or(0))
                .sum::<usize>()
        };
        let changes = [
            "transfer-queued",
            "transfer-done",
            "deletion-done",
            "deletion-not-found",
            "deletion-failed",
            "lost",
        ];
        assert_eq!(told.changes.len(), count(&changes), "{name}");
        let steps: usize = words
            .iter()
            .filter(|(word, _)| word.starts_with("transfer-") || word.starts_with("deletion-"))
            .map(|(_, count)| count)
            .sum();
        assert_eq!(told.attempts.len(), steps, "{name}");
        assert_eq!(
            told.said.len(),
            count(&["rule_ok", "rule_progress", "datasetlock_ok", "lost"]),
            "{name}"
        );
        let unclear = told
            .attempts
            .iter()
            .filter(|attempt| attempt.failure == Some(FailureClass::Other))
            .count();
        let server_errors = night(name)
            .iter()
            .filter(|line| line.contains("Unexpected server error"))
            .count();
        assert_eq!(unclear, server_errors, "{name}");
    }
}

fn bodies() -> &'static [String] {
    static BODIES: OnceLock<Vec<String>> = OnceLock::new();
    BODIES.get_or_init(|| {
        ["a-events", "b-events", "c-elastic-bulk"]
            .into_iter()
            .flat_map(|name| night(name).into_iter().step_by(23))
            .collect()
    })
}

proptest! {
    #[test]
    fn facts_are_the_same_scanned_and_decoded(
        which in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
        edit in any::<prop::sample::Index>(),
        byte in 0x20u8..0x7f,
    ) {
        let (mut scanning, mut decoding) = (Teller::new(ALL), Teller::new(ALL));
        let (mut by_scan, mut by_decode) = (Told::default(), Told::default());
        for index in which {
            let mut body = index.get(bodies()).clone().into_bytes();
            let at = edit.index(body.len());
            body[at] = byte;
            let (Some(scanned), Ok(event)) = (scan(&body), decode(&body)) else { continue };
            prop_assert_eq!(
                scanning.tell(&scanned, &body, &mut by_scan),
                decoding.tell(&event.glimpse(), &body, &mut by_decode)
            );
        }
        prop_assert_eq!(by_scan, by_decode);
    }
}
