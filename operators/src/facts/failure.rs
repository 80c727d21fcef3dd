//! Failure: from the words of a reason to its class.
//!
//! Reasons come from Rucio, FTS, gfal2 and the storage systems behind it, in sentences that change from release to
//! release. The first class of the list below of which one phrase occurs in the reason is the reason's: what says
//! most comes first, since a sentence about a missing certificate may also be about a connection.

use super::{FailureClass, Step};

/// Phrases in lower case.
const PHRASES: &[(FailureClass, &[&str])] = &[
    (
        FailureClass::JobLost,
        &["fts job lost", "job lost", "no longer known", "unknown job"],
    ),
    (
        FailureClass::Checksum,
        &[
            "checksum mismatch",
            "checksum value",
            "checksums do not match",
            "checksum does not match",
            "do not match checksum",
            "bad checksum",
            "file size mismatch",
            "size mismatch",
            "source and destination file sizes don't match",
        ],
    ),
    (
        FailureClass::DestinationExists,
        &[
            "file exists",
            "already exists",
            "overwrite is not enabled",
            "overwrite not enabled",
            "overwrite not set",
        ],
    ),
    (
        FailureClass::Space,
        &[
            "no space",
            "no free space",
            "not enough space",
            "insufficient space",
            "insufficient storage",
            "disk full",
            "quota",
            "no write pool",
            "http 507",
        ],
    ),
    (
        FailureClass::Cancelled,
        &[
            "canceled",
            "cancelled",
            "marker timeout",
            "aborted by user",
            "transfer timed out after",
            "has been forced",
        ],
    ),
    (
        FailureClass::Access,
        &[
            "permission",
            "not permitted",
            "forbidden",
            "unauthorized",
            "unauthorised",
            "not authorized",
            "not authorised",
            "authorization",
            "authentication",
            "access denied",
            "certificate",
            "credential",
            "proxy expired",
            "proxy has expired",
            "expired proxy",
            "bearer token",
            "token expired",
            "login failed",
            "http 401",
            "http 403",
        ],
    ),
    (
        FailureClass::Unreachable,
        &[
            "timed out",
            "timeout",
            "time out",
            "connection refused",
            "connection reset",
            "connection closed",
            "broken pipe",
            "could not connect",
            "failed to connect",
            "unable to connect",
            "can't connect",
            "unreachable",
            "no route to host",
            "host is down",
            "name or service not known",
            "could not resolve",
            "host not found",
            "unknown host",
            "service unavailable",
            "not available at the moment",
            "temporarily unavailable",
            "bad gateway",
            "http 502",
            "http 503",
            "http 504",
        ],
    ),
    (
        FailureClass::SourceMissing,
        &[
            "no such file",
            "file not found",
            "404 not found",
            "http 404",
            "does not exist",
            "no such object",
            "nosuchkey",
        ],
    ),
    (
        FailureClass::Refused,
        &[
            "bad request",
            "http 400",
            "invalid argument",
            "invalid request",
            "malformed",
            "not supported",
            "unsupported",
            "scheme mismatch",
            "submission refused",
        ],
    ),
    (FailureClass::Checksum, &["checksum"]),
];

impl FailureClass {
    /// The class of what `step` failed of, as far as the reason tells.
    ///
    /// Two steps say it by themselves: a job that FTS no longer knows is lost, and a submission without
    /// a reason was refused. A destination has no source: what is missing there is another matter.
    pub fn of(step: Step, reason: Option<&str>) -> Self {
        let reason = reason.unwrap_or_default().trim().to_ascii_lowercase();
        let told = match reason.as_str() {
            "" => None,
            reason => PHRASES
                .iter()
                .filter(|(class, _)| *class != Self::SourceMissing || !reason.starts_with("destination"))
                .find(|(_, phrases)| phrases.iter().any(|phrase| reason.contains(phrase)))
                .map(|(class, _)| *class),
        };
        match (told, step) {
            (_, Step::Lost) => Self::JobLost,
            (Some(class), _) => class,
            (None, Step::SubmissionFailed) => Self::Refused,
            (None, _) if reason.is_empty() => Self::NotTold,
            (None, _) => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_were_seen_have_their_class() {
        for (reason, class) in [
            (
                "SOURCE SRM_GET_TURL HTTP 404 : File not found ",
                FailureClass::SourceMissing,
            ),
            (
                "TRANSFER [2] TRANSFER ERROR: Copy failed (3rd pull). Last attempt: Transfer failure: rejected GET: 404 Not Found",
                FailureClass::SourceMissing,
            ),
            (
                "SOURCE CHECKSUM MISMATCH Source checksum value does not match the expected one",
                FailureClass::Checksum,
            ),
            (
                "SOURCE CHECKSUM HTTP 404 : File not found",
                FailureClass::SourceMissing,
            ),
            ("SOURCE CHECKSUM Failed to get it", FailureClass::Checksum),
            (
                "Transfer canceled because the gsiftp/dav performance marker timeout of 360 seconds has been exceeded, or all performance markers during that period indicated zero bytes transferred",
                FailureClass::Cancelled,
            ),
            (
                "DESTINATION OVERWRITE HTTP 403 : Permission refused ",
                FailureClass::Access,
            ),
            (
                "DESTINATION MAKE_PARENT No such file or directory",
                FailureClass::Other,
            ),
            (
                "DESTINATION SRM_PUT_TURL Destination file exists and overwrite is not enabled",
                FailureClass::DestinationExists,
            ),
            (
                "TRANSFER ERROR: Copy failed (streamed). Last attempt: HTTP 500 : Unexpected server error: 500",
                FailureClass::Other,
            ),
            ("TRANSFER Operation timed out", FailureClass::Unreachable),
            (
                "TRANSFER [110] Connection timed out \"after\" 300 s",
                FailureClass::Unreachable,
            ),
            (
                "The requested service is not available at the moment.\nDetails: DavPosix::unlink  HTTP 503 : Service Unavailable",
                FailureClass::Unreachable,
            ),
            ("No space left on device", FailureClass::Space),
            ("Unsupported protocol", FailureClass::Refused),
            ("  ", FailureClass::NotTold),
        ] {
            assert_eq!(FailureClass::of(Step::Failed, Some(reason)), class, "{reason}");
        }
        assert_eq!(FailureClass::of(Step::Failed, None), FailureClass::NotTold);
    }

    #[test]
    fn two_steps_say_it_by_themselves() {
        assert_eq!(
            FailureClass::of(Step::Lost, Some("The FTS job lost")),
            FailureClass::JobLost
        );
        assert_eq!(FailureClass::of(Step::Lost, None), FailureClass::JobLost);
        assert_eq!(
            FailureClass::of(Step::SubmissionFailed, None),
            FailureClass::Refused
        );
        let timeout = FailureClass::of(Step::SubmissionFailed, Some("FTS: connection timed out"));
        assert_eq!(timeout, FailureClass::Unreachable);
    }

    #[test]
    fn phrases_are_lower_case() {
        let phrases = PHRASES.iter().flat_map(|(_, phrases)| *phrases);
        for phrase in phrases {
            assert_eq!(phrase.to_ascii_lowercase(), **phrase);
        }
    }
}
