//! Attempt: what an event says of one request to transfer, or one attempt to delete, a file.

use super::{DatasetName, DidKey, RseName, ScopeName};
use dbb_events::{EventId, Micros};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A duration that is not told.
pub const UNKNOWN_MS: u32 = u32::MAX;

/// One step of one request, or one outcome of a deletion. Unlike changes these are counted, so repeats are
/// dropped by `event` first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attempt {
    /// The identity of the event.
    pub event: EventId,
    /// The file.
    pub did: DidKey,
    /// Its scope.
    pub scope: ScopeName,
    /// What happened.
    pub step: Step,
    /// When: `created_at` of the event.
    pub at: Micros,
    /// Where the file comes from; `None` for a deletion, and where it is not told.
    pub src: Option<RseName>,
    /// Where it goes, or was to be deleted.
    pub rse: RseName,
    /// Size in bytes; `None` where it is not told.
    pub bytes: Option<u64>,
    /// The Rucio dataset it is transferred for.
    pub dataset: Option<DatasetName>,
    /// The rule; only `transfer-queued` tells it.
    pub rule: Option<u128>,
    /// Why it failed; `None` unless it did.
    pub failure: Option<FailureClass>,
    /// Milliseconds from the request to its submission to FTS; [`UNKNOWN_MS`] where not told.
    pub waited_ms: u32,
    /// Milliseconds from the submission to the first byte.
    pub queued_ms: u32,
    /// Milliseconds from the first byte to the last.
    pub ran_ms: u32,
    /// Milliseconds from the last byte to the event.
    pub noticed_ms: u32,
}

/// What happened to a request or a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Step {
    /// A request was made.
    Queued,
    /// FTS has it.
    Submitted,
    /// FTS refused it.
    SubmissionFailed,
    /// The file has landed.
    Done,
    /// This try failed.
    Failed,
    /// FTS no longer knows it.
    Lost,
    /// The file is gone from the storage.
    Deleted,
    /// The storage had no such file: gone as well.
    NotFound,
    /// It could not be removed.
    DeletionFailed,
}

impl Step {
    /// The word in a view.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Queued => "queued",
            Step::Submitted => "submitted",
            Step::SubmissionFailed => "submission_failed",
            Step::Done => "done",
            Step::Failed => "failed",
            Step::Lost => "lost",
            Step::Deleted => "deleted",
            Step::NotFound => "not_found",
            Step::DeletionFailed => "deletion_failed",
        }
    }

    /// True for what failed and has a reason.
    pub fn is_failure(self) -> bool {
        matches!(
            self,
            Step::SubmissionFailed | Step::Failed | Step::Lost | Step::DeletionFailed
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The kind of reason that a failure gives in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum FailureClass {
    /// Nothing answered, or not in time.
    Unreachable,
    /// The source has no such file.
    SourceMissing,
    /// The destination has such a file already.
    DestinationExists,
    /// The bytes that arrived are not those that were sent.
    Checksum,
    /// Someone may not do this: certificates, tokens, permissions.
    Access,
    /// No space, or a quota.
    Space,
    /// It was cancelled, or took longer than it may.
    Cancelled,
    /// FTS no longer knows the job.
    JobLost,
    /// The request itself is refused.
    Refused,
    /// A reason in other words.
    Other,
    /// No reason is given.
    NotTold,
}

impl FailureClass {
    /// The word in a view.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureClass::Unreachable => "unreachable",
            FailureClass::SourceMissing => "source_missing",
            FailureClass::DestinationExists => "destination_exists",
            FailureClass::Checksum => "checksum",
            FailureClass::Access => "access",
            FailureClass::Space => "space",
            FailureClass::Cancelled => "cancelled",
            FailureClass::JobLost => "job_lost",
            FailureClass::Refused => "refused",
            FailureClass::Other => "other",
            FailureClass::NotTold => "not_told",
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
