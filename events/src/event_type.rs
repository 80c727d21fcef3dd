//! What an event tells of: every type Rucio 41 emits, and what hubs and sites say to each other, by name.

use std::{borrow::Cow, fmt};

macro_rules! event_types {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// The type of an event. The message table has some in upper case (`RULE_OK`), and Hermes lowers
        /// them for Kafka and ActiveMQ but not for Elastic: both are the same type here.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventType<'a> {
            $($(#[$doc])* $variant,)*
            /// A type this program does not know, as it came, lowered: carried, counted, never refused.
            Other(Cow<'a, str>),
        }

        impl<'a> EventType<'a> {
            /// Every type with a name.
            pub const KNOWN: &'static [EventType<'static>] = &[$(EventType::$variant,)*];

            /// The type called `word`, in any case.
            pub fn parse(word: Cow<'a, str>) -> Self {
                // Nearly every event is lower case: one match, no allocation.
                match word.as_ref() {
                    $($word => return Self::$variant,)*
                    _ => {}
                }
                if !word.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    return Self::Other(word);
                }
                match word.to_ascii_lowercase() {
                    $(lower if lower == $word => Self::$variant,)*
                    lower => Self::Other(Cow::Owned(lower)),
                }
            }

            /// The word, in lower case.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Other(word) => word,
                }
            }

            /// The same type, borrowed from this one.
            pub fn as_borrowed(&self) -> EventType<'_> {
                match self {
                    $(Self::$variant => EventType::$variant,)*
                    Self::Other(word) => EventType::Other(Cow::Borrowed(word)),
                }
            }

            /// The same type, free of the buffer it was read from.
            pub fn into_owned(self) -> EventType<'static> {
                match self {
                    $(Self::$variant => EventType::$variant,)*
                    Self::Other(word) => EventType::Other(Cow::Owned(word.into_owned())),
                }
            }
        }
    };
}

event_types! {
    /// A transfer request exists; the replica is COPYING.
    TransferQueued = "transfer-queued",
    /// As queued, where the preparer daemon chooses the source first.
    TransferPreparing = "transfer-preparing",
    /// FTS has the request.
    TransferSubmitted = "transfer-submitted",
    /// FTS refused the request; it is queued again or given up.
    TransferSubmissionFailed = "transfer-submission_failed",
    /// The file has landed; Rucio calls it available a little later, without an event.
    TransferDone = "transfer-done",
    /// One try failed; the last one looks like any other.
    TransferFailed = "transfer-failed",
    /// FTS no longer knows the job.
    TransferLost = "transfer-lost",
    /// A stage-in request from tape exists.
    StageinQueued = "stagein-queued",
    /// As queued, before a source is chosen.
    StageinPreparing = "stagein-preparing",
    /// FTS has the stage-in.
    StageinSubmitted = "stagein-submitted",
    /// FTS refused the stage-in.
    StageinSubmissionFailed = "stagein-submission_failed",
    /// The file is staged.
    StageinDone = "stagein-done",
    /// One try to stage failed.
    StageinFailed = "stagein-failed",
    /// FTS no longer knows the stage-in.
    StageinLost = "stagein-lost",
    /// The file is gone from the storage; its row goes next.
    DeletionDone = "deletion-done",
    /// The storage had no such file: gone as well.
    DeletionNotFound = "deletion-not-found",
    /// The file could not be removed, and will be tried again.
    DeletionFailed = "deletion-failed",
    /// Not sent since July 2017; old archives have it.
    DeletionPlanned = "deletion-planned",
    /// A Rucio dataset was made.
    CreateDts = "create_dts",
    /// A container was made.
    CreateCnt = "create_cnt",
    /// A dataset or container was put into a container.
    RegisterCnt = "register_cnt",
    /// A dataset or container was taken out of a container.
    EraseCnt = "erase_cnt",
    /// Anything was taken out of anything.
    Detach = "detach",
    /// A dataset lost a file whose last replica went.
    Incomplete = "incomplete",
    /// A DID was deleted.
    Erase = "erase",
    /// A dataset or container takes no more content.
    Close = "close",
    /// A dataset or container takes content again.
    Open = "open",
    /// The last copy of a file is bad; one event for each parent dataset, without an RSE.
    Lost = "lost",
    /// All locks of a rule are OK.
    RuleOk = "rule_ok",
    /// A rule has come further.
    RuleProgress = "rule_progress",
    /// All locks of a rule on one dataset at one RSE are OK.
    DatasetlockOk = "datasetlock_ok",
    /// Mail to a person.
    Email = "email",
    /// Of a `dbb` hub: the number of the last record of a lane; see [`crate::message`].
    DbbHeartbeat = "dbb-heartbeat",
    /// Of a `dbb` hub: records that it does not have any more.
    DbbUnavailable = "dbb-unavailable",
    /// Of a `dbb` site: records that did not arrive.
    DbbResend = "dbb-resend",
    /// Of a `dbb` site: what became of an event.
    DbbOutcome = "dbb-outcome",
}

impl EventType<'_> {
    /// True for what tells of a transfer or stage-in request, which has a `request-id`.
    pub fn is_request(&self) -> bool {
        use EventType::*;
        matches!(
            self,
            TransferQueued
                | TransferPreparing
                | TransferSubmitted
                | TransferSubmissionFailed
                | TransferDone
                | TransferFailed
                | TransferLost
                | StageinQueued
                | StageinPreparing
                | StageinSubmitted
                | StageinSubmissionFailed
                | StageinDone
                | StageinFailed
                | StageinLost
        )
    }

    /// True for what hubs and sites say to each other.
    pub fn is_message(&self) -> bool {
        use EventType::*;
        matches!(self, DbbHeartbeat | DbbUnavailable | DbbResend | DbbOutcome)
    }

    /// True for what tells of the removal of a file from an RSE.
    pub fn is_deletion(&self) -> bool {
        use EventType::*;
        matches!(
            self,
            DeletionDone | DeletionNotFound | DeletionFailed | DeletionPlanned
        )
    }
}

impl fmt::Display for EventType<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_in_both_cases() {
        for known in EventType::KNOWN {
            assert_eq!(EventType::parse(known.as_str().into()), *known);
            assert_eq!(EventType::parse(known.as_str().to_uppercase().into()), *known);
            assert!(!matches!(known, EventType::Other(_)));
        }
        assert_eq!(EventType::KNOWN.len(), 36);
    }

    #[test]
    fn an_unknown_type_is_carried() {
        assert_eq!(
            EventType::parse("Transfer-Thrown".into()).as_str(),
            "transfer-thrown"
        );
        assert!(!EventType::parse("transfer-thrown".into()).is_request());
    }
}
