//! From the worker's answer to the word in the ledger. Pure: the time comes in.
//!
//! ```text
//!   done, already there, elsewhere, removed, not there, kept --> that
//!   refused                        --> a dead letter with its reason
//!   retry later --> waiting, until its tries or its age are used up; then a dead letter
//! ```

use super::{
    Patience,
    protocol::{Answer, Class},
};
use dbb_events::{Dependency, Micros, Outcome, Reason, Refusal, Request, Settled, Verified};

/// The ledger's row for `request` after this answer.
pub(super) fn settle(request: Request, answer: Answer, now: Micros, patience: &Patience) -> Settled {
    let outcome = outcome(&request, &answer, now, patience);
    let registered = outcome.is_registered();
    Settled {
        request,
        outcome,
        at: now,
        took: None,
        uuids: answer.uuids,
        verified: verified(&answer.verified),
        provides: if registered { answer.provides } else { Vec::new() },
    }
}

/// The row for a request that the worker was never asked about, or could not answer.
pub(super) fn unasked(request: Request, outcome: Outcome, now: Micros) -> Settled {
    Settled {
        request,
        outcome,
        at: now,
        took: None,
        uuids: Vec::new(),
        verified: Verified::NotAsked,
        provides: Vec::new(),
    }
}

/// A passing fault: waits, or has been tried often enough.
pub(super) fn passing(
    request: &Request,
    reason: Reason,
    detail: String,
    now: Micros,
    patience: &Patience,
) -> Outcome {
    counted(
        request,
        Dependency::Time,
        reason,
        detail,
        patience.max_attempts,
        now,
        patience,
    )
}

fn outcome(request: &Request, answer: &Answer, now: Micros, patience: &Patience) -> Outcome {
    match answer.class {
        Class::Done => Outcome::Ingested,
        Class::AlreadyThere => Outcome::AlreadyThere,
        Class::AlreadyThereElsewhere => Outcome::AlreadyThereElsewhere {
            uri: answer.uri.clone(),
        },
        Class::Removed => Outcome::Removed,
        Class::NotThere => Outcome::NotThere,
        Class::KeptElsewhere => Outcome::KeptElsewhere {
            uri: answer.uri.clone(),
        },
        Class::Refused => refused(reason(answer), answer.detail.clone()),
        Class::RetryLater => later(request, answer, now, patience),
    }
}

fn later(request: &Request, answer: &Answer, now: Micros, patience: &Patience) -> Outcome {
    let detail = answer.detail.clone();
    if reason(answer) == Reason::FileMissing {
        return counted(
            request,
            Dependency::File(request.uri.clone()),
            Reason::FileMissing,
            detail,
            patience.file_missing_attempts,
            now,
            patience,
        );
    }
    let dependency = match answer.waits_for.split_once(':') {
        Some(("dimension", key)) => Dependency::Dimension(key.into()),
        Some(("file", uri)) => Dependency::File(uri.into()),
        _ => return passing(request, reason(answer), detail, now, patience),
    };
    // What others have to send: only its age counts, for it may take days and many a look.
    let waited_s = request
        .waiting_since
        .map_or(0.0, |since| now.seconds_since(since).max(0.0));
    if waited_s >= patience.max_wait_s as f64 {
        let days = waited_s / 86_400.0;
        return refused(
            Reason::WaitedTooLong,
            format!("waited {days:.1} days for {}: {detail}", dependency.key()),
        );
    }
    // As long again as it has waited: the intervals double.
    let wait_s = (waited_s as i64).clamp(patience.retry_s.into(), patience.retry_max_s.into());
    Outcome::Waiting {
        dependency,
        not_before: now.plus_seconds(wait_s),
        detail,
        counts: false,
    }
}

fn counted(
    request: &Request,
    dependency: Dependency,
    reason: Reason,
    detail: String,
    most: u32,
    now: Micros,
    patience: &Patience,
) -> Outcome {
    if request.attempts.saturating_add(1) >= most {
        return refused(
            reason,
            format!("{detail}; tried {} times", request.attempts.saturating_add(1)),
        );
    }
    let wait_s = u64::from(patience.retry_s) << request.attempts.min(20);
    Outcome::Waiting {
        dependency,
        not_before: now.plus_seconds(wait_s.min(patience.retry_max_s.into()) as i64),
        detail,
        counts: true,
    }
}

fn refused(reason: Reason, detail: String) -> Outcome {
    Outcome::Refused(Refusal { reason, detail })
}

fn reason(answer: &Answer) -> Reason {
    // A word from a newer worker is still a refusal by the Butler.
    Reason::parse(&answer.reason).unwrap_or(Reason::Butler)
}

fn verified(word: &str) -> Verified {
    match word {
        "size" => Verified::Size,
        "checksum" => Verified::Checksum,
        "unverified" => Verified::Unverified,
        _ => Verified::NotAsked,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::{super::story::tests::request, *};

    const NOW: Micros = Micros(1_800_000_000_000_000);

    fn answer(json: &str) -> Answer {
        let json = format!(r#"{{"k": 0, "detail": "why", {json}}}"#);
        serde_json::from_str(&json).unwrap()
    }

    fn later(reason: &str, waits_for: &str) -> Answer {
        answer(&format!(
            r#""class": "retry_later", "reason": "{reason}", "waits_for": "{waits_for}""#
        ))
    }

    /// The outcome after `attempts` counted tries, the first of them `waited_s` ago.
    fn after(attempts: u32, waited_s: i64, answer: Answer) -> Outcome {
        let mut request = request("a", 1);
        request.attempts = attempts;
        request.waiting_since = Some(NOW.plus_seconds(-waited_s));
        settle(request, answer, NOW, &Patience::default()).outcome
    }

    fn wait_s(outcome: &Outcome) -> f64 {
        match outcome {
            Outcome::Waiting { not_before, .. } => not_before.seconds_since(NOW),
            other => panic!("{other:?} does not wait"),
        }
    }

    fn reason_of(outcome: &Outcome) -> Reason {
        match outcome {
            Outcome::Refused(refusal) => refusal.reason,
            other => panic!("{other:?} is no refusal"),
        }
    }

    #[test]
    fn each_class_has_its_word() {
        let cases = [
            (r#""class": "done""#, "ingested"),
            (r#""class": "already_there""#, "already_there"),
            (
                r#""class": "already_there_elsewhere", "uri": "/x""#,
                "already_there_elsewhere",
            ),
            (r#""class": "removed""#, "removed"),
            (r#""class": "not_there""#, "not_there"),
            (r#""class": "kept_elsewhere", "uri": "/x""#, "kept_elsewhere"),
            (r#""class": "refused", "reason": "conflict""#, "refused"),
            (r#""class": "retry_later", "waits_for": "time""#, "waiting"),
        ];
        for (json, word) in cases {
            assert_eq!(after(0, 0, answer(json)).as_str(), word);
        }
    }

    #[test]
    fn every_reason_the_worker_may_give_arrives() {
        for reason in Reason::ALL {
            let answer = answer(&format!(r#""class": "refused", "reason": "{reason}""#));
            assert_eq!(reason_of(&after(0, 0, answer)), reason);
        }
        let unheard_of = answer(r#""class": "refused", "reason": "phase of the moon""#);
        assert_eq!(reason_of(&after(0, 0, unheard_of)), Reason::Butler);
    }

    #[test]
    fn uuids_and_what_was_verified_go_into_the_row() {
        let uuid = "7d3f7b33-8a02-4f32-a4a0-5a9a0b0b8f11";
        let words = [
            ("size", Verified::Size),
            ("checksum", Verified::Checksum),
            ("unverified", Verified::Unverified),
            ("not_asked", Verified::NotAsked),
        ];
        for (word, verified) in words {
            let answer = answer(&format!(
                r#""class": "done", "uuids": ["{uuid}"], "verified": "{word}", "provides": ["file:/d"]"#
            ));
            let row = settle(request("a", 1), answer, NOW, &Patience::default());
            assert_eq!(row.uuids[0].to_string(), uuid);
            assert_eq!(row.verified, verified);
            assert_eq!(row.provides, ["file:/d".into()]);
            assert_eq!(row.at, NOW);
        }
    }

    #[test]
    fn only_what_is_registered_provides_anything() {
        let mut waiting = later("butler", "time");
        waiting.provides = vec!["file:/d".into()];
        let row = settle(request("a", 1), waiting, NOW, &Patience::default());
        assert!(row.provides.is_empty());
    }

    #[test]
    fn a_missing_record_is_waited_for_by_its_key_and_costs_no_attempt() {
        let key = "exposure/LSSTCam/2026040100001";
        let outcome = after(500, 60, later("butler", &format!("dimension:{key}")));
        let Outcome::Waiting {
            dependency, counts, ..
        } = &outcome
        else {
            panic!("{outcome:?}");
        };
        assert_eq!(*dependency, Dependency::Dimension(key.into()));
        assert_eq!(dependency.key(), format!("dimension:{key}"));
        assert!(!counts);
    }

    #[test]
    fn a_sibling_is_waited_for_by_its_uri_even_with_a_scheme() {
        let outcome = after(0, 0, later("butler", "file:https://door/zip_dimensions.yaml"));
        let Outcome::Waiting { dependency, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(
            dependency,
            Dependency::File("https://door/zip_dimensions.yaml".into())
        );
    }

    #[test]
    fn the_time_between_looks_doubles_and_has_bounds() {
        let look = |waited_s| wait_s(&after(0, waited_s, later("butler", "dimension:visit/C/1")));
        assert_eq!(look(0), 10.0);
        assert_eq!(look(40), 40.0);
        assert_eq!(look(86_400), 3600.0);
        let fault = |attempts| wait_s(&after(attempts, 0, later("butler", "time")));
        assert_eq!([fault(0), fault(1), fault(2)], [10.0, 20.0, 40.0]);
        assert_eq!(fault(8), 2560.0);
    }

    #[test]
    fn what_never_comes_is_refused_at_the_configured_age() {
        let week = 7 * 24 * 3600;
        let missing = || later("butler", "dimension:visit/C/1");
        assert_eq!(after(0, week - 1, missing()).as_str(), "waiting");
        let outcome = after(0, week, missing());
        assert_eq!(reason_of(&outcome), Reason::WaitedTooLong);
        let Outcome::Refused(refusal) = outcome else {
            panic!();
        };
        assert_eq!(refusal.detail, "waited 7.0 days for dimension:visit/C/1: why");
    }

    #[test]
    fn a_clock_that_went_back_does_not_age_anything() {
        assert_eq!(
            wait_s(&after(0, -3600, later("butler", "dimension:visit/C/1"))),
            10.0
        );
    }

    #[test]
    fn a_passing_fault_is_tried_ten_times_and_a_missing_file_five() {
        assert_eq!(after(8, 0, later("butler", "time")).as_str(), "waiting");
        assert_eq!(reason_of(&after(9, 0, later("butler", "time"))), Reason::Butler);
        assert_eq!(
            after(3, 0, later("file_missing", "file:/data/a")).as_str(),
            "waiting"
        );
        assert_eq!(
            reason_of(&after(4, 0, later("file_missing", "file:/data/a"))),
            Reason::FileMissing
        );
        assert_eq!(
            reason_of(&after(u32::MAX, 0, later("butler", "time"))),
            Reason::Butler
        );
    }
}
