//! Meanings: what each column holds.

/// A view, or nothing for a column that is alike in all; the column; what it holds.
type Meaning = (&'static str, &'static str, &'static str);

const MEANINGS: &[Meaning] = &[
    // Alike in all.
    ("", "scope", "The scope of the file or files."),
    ("", "name", "The file's name in its scope."),
    ("", "rse", "The RSE."),
    ("", "state", "The state of the replica, in Rucio's word."),
    ("", "files", "How many."),
    (
        "",
        "bytes",
        "Their bytes; of a file whose size nobody tells, none.",
    ),
    ("", "policy", "The name of the policy."),
    (
        "",
        "src_rse",
        "The RSE that the files come from; empty where it is not told.",
    ),
    // replicas
    (
        "replicas",
        "name",
        "The file's name; `?` and 32 hexadecimal digits where nobody has told it.",
    ),
    ("replicas", "bytes", "The file's size in bytes."),
    ("replicas", "adler32", "Its Adler-32, 8 hexadecimal digits."),
    (
        "replicas",
        "basis",
        "What the state is known from: `event`, `listing` or `journal`.",
    ),
    (
        "replicas",
        "updated_at",
        "Since when it is known to be so: the time of the event, journal row or listing.",
    ),
    // site_outcomes
    (
        "site_outcomes",
        "repository",
        "The Butler repository, by the site's name for it.",
    ),
    (
        "site_outcomes",
        "outcome",
        "The word of the site's ledger: `ingested`, `already_there`, `waiting`, `refused`, `removed` and so on.",
    ),
    (
        "site_outcomes",
        "reason",
        "The class of a refusal, or what is waited for; null otherwise.",
    ),
    (
        "site_outcomes",
        "state",
        "`AVAILABLE` where the replica is so; null otherwise, and `replicas` has all states.",
    ),
    (
        "site_outcomes",
        "event_at",
        "The time of the event that this became of.",
    ),
    (
        "site_outcomes",
        "settled_at",
        "Since when it is so, by the site's clock.",
    ),
    // site_completeness
    ("site_completeness", "scope", "The scope of the Rucio dataset."),
    ("site_completeness", "name", "The name of the Rucio dataset."),
    (
        "site_completeness",
        "rse",
        "The RSE; empty in the row that tells of the listing itself.",
    ),
    (
        "site_completeness",
        "members",
        "Files in the dataset, by its newest listing.",
    ),
    (
        "site_completeness",
        "available",
        "Those of them that are AVAILABLE at the RSE.",
    ),
    (
        "site_completeness",
        "ingested",
        "Those of them that every repository has which spoke of them.",
    ),
    (
        "site_completeness",
        "waiting",
        "Those that some repository waits with, and none has refused.",
    ),
    (
        "site_completeness",
        "refused",
        "Those that some repository has refused.",
    ),
    (
        "site_completeness",
        "complete",
        "`complete` when every member is AVAILABLE and registered, else `incomplete`.",
    ),
    ("site_completeness", "contents_at", "The time of the listing."),
    // placement
    (
        "placement",
        "expected",
        "Files that should be there: those selected that exist anywhere.",
    ),
    ("placement", "have", "Those of them that are AVAILABLE there."),
    ("placement", "on_the_way", "Those that are COPYING."),
    ("placement", "missing", "The others."),
    (
        "placement",
        "missing_bytes",
        "Bytes of the missing files, by the greatest size told of each.",
    ),
    (
        "placement",
        "unexpected",
        "Files that are there, in any state, and should not be.",
    ),
    // placement_gaps
    ("placement_gaps", "what", "`missing` or `unexpected`."),
    (
        "placement_gaps",
        "state",
        "The state of the replica there; null where there is none.",
    ),
    (
        "placement_gaps",
        "bytes",
        "The file's size in bytes, the greatest told; 0 where nobody tells.",
    ),
    // dataset_progress
    ("dataset_progress", "scope", "The scope of the Rucio dataset."),
    ("dataset_progress", "name", "The name of the Rucio dataset."),
    (
        "dataset_progress",
        "requested",
        "Files of which an event names a transfer for this dataset to this RSE; live, one that is transferred again when it was \
         forgotten counts again.",
    ),
    (
        "dataset_progress",
        "done",
        "Those of them whose newest step is done.",
    ),
    (
        "dataset_progress",
        "failed",
        "Those of them whose newest step failed.",
    ),
    (
        "dataset_progress",
        "members",
        "Files in the dataset, by its newest listing.",
    ),
    (
        "dataset_progress",
        "missing",
        "Those of them that are not AVAILABLE at the RSE.",
    ),
    (
        "dataset_progress",
        "complete",
        "`complete` or `incomplete` by that listing; `unknown` without one.",
    ),
    ("dataset_progress", "contents_at", "The time of that listing."),
    // transfers
    ("transfers", "dst_rse", "The RSE that they go to."),
    ("transfers", "hour", "The beginning of the hour of their events."),
    ("transfers", "done", "Files that landed."),
    (
        "transfers",
        "failed",
        "Tries that failed: refused by FTS, failed, or lost by it.",
    ),
    (
        "transfers",
        "bytes",
        "Bytes that landed; of a file whose size is not told, none.",
    ),
    (
        "transfers",
        "waited_p50_s",
        "Seconds from the request to its submission to FTS: the median.",
    ),
    ("transfers", "waited_p95_s", "The 95th percentile."),
    (
        "transfers",
        "queued_p50_s",
        "Seconds from the submission to the first byte: the median.",
    ),
    ("transfers", "queued_p95_s", "The 95th percentile."),
    (
        "transfers",
        "ran_p50_s",
        "Seconds from the first byte to the last: the median.",
    ),
    ("transfers", "ran_p95_s", "The 95th percentile."),
    (
        "transfers",
        "noticed_p50_s",
        "Seconds from the last byte to the event: the median.",
    ),
    ("transfers", "noticed_p95_s", "The 95th percentile."),
    (
        "transfers",
        "total_p50_s",
        "Seconds from the request to the event: the median.",
    ),
    ("transfers", "total_p95_s", "The 95th percentile."),
    // failures
    (
        "failures",
        "step",
        "The step that failed: `submission_failed`, `failed`, `lost` or `deletion_failed`.",
    ),
    (
        "failures",
        "class",
        "The kind of reason: `unreachable`, `source_missing`, `checksum`, `space`, ...",
    ),
    (
        "failures",
        "src_rse",
        "The RSE that the files come from; empty for deletions, and where it is not told.",
    ),
    (
        "failures",
        "rse",
        "The RSE where they were to go, or to be deleted.",
    ),
    ("failures", "count", "How often it failed so."),
    (
        "failures",
        "bytes",
        "Bytes of the files, each as often as it failed.",
    ),
    ("failures", "first_at", "When first."),
    ("failures", "last_at", "When last."),
    // lost_files
    (
        "lost_files",
        "datasets",
        "The Rucio datasets it was in, joined by commas.",
    ),
    ("lost_files", "lost_at", "When it was lost, the last time."),
    // rules
    ("rules", "rule_id", "The rule's id."),
    (
        "rules",
        "scope",
        "The scope of the DID it is for; null where no event about the whole rule came.",
    ),
    ("rules", "name", "The name of that DID."),
    (
        "rules",
        "last_word",
        "What was last said of the whole rule: `ok` or `progress`.",
    ),
    (
        "rules",
        "progress",
        "The percentage last said; 100 of a rule that is OK.",
    ),
    (
        "rules",
        "ok_rses",
        "At how many RSEs all locks on a dataset of it were once OK.",
    ),
    ("rules", "ok_rse_names", "Those RSEs, joined by commas."),
    (
        "rules",
        "queued",
        "Transfers that were queued for it, retries too.",
    ),
    ("rules", "last_seen_at", "When an event last named it."),
    // ingest_backlog
    (
        "ingest_backlog",
        "repository",
        "The Butler repository, by its name in the configuration.",
    ),
    ("ingest_backlog", "rse", "The RSE where the files landed."),
    (
        "ingest_backlog",
        "files",
        "Files with no final outcome, the waiting ones too.",
    ),
    (
        "ingest_backlog",
        "waiting",
        "Of those, the files that were tried and wait for something.",
    ),
    ("ingest_backlog", "waiting_bytes", "Their bytes."),
    (
        "ingest_backlog",
        "oldest",
        "The time of the oldest of their events.",
    ),
    // attempts
    (
        "attempts",
        "repository",
        "The Butler repository, by its name in the configuration.",
    ),
    (
        "attempts",
        "outcome",
        "What the attempts came to, in the ledger's word.",
    ),
    (
        "attempts",
        "count",
        "How many attempts, since the ledger has counted them; what is read twice after a crash is tried twice.",
    ),
    (
        "attempts",
        "p50_s",
        "Half of them took no longer, in seconds, within 1.6 %. Files that are registered together share their call.",
    ),
    ("attempts", "p95_s", "95 % of them took no longer."),
    ("attempts", "p99_s", "99 % of them took no longer."),
    // stream_health
    (
        "stream_health",
        "stream",
        "The topic, file or queue; `(all)` in the row of all together.",
    ),
    (
        "stream_health",
        "partition",
        "The partition; null in the row of all.",
    ),
    (
        "stream_health",
        "offset",
        "The offset of the next record; null while none was read.",
    ),
    (
        "stream_health",
        "lag",
        "How many records the source has beyond that, where it knows.",
    ),
    (
        "stream_health",
        "lateness_p99_s",
        "Seconds from an event's making to its append, or where that is not told to its reading: the 99th percentile of the last minutes.",
    ),
    ("stream_health", "records", "Records read since the start."),
    (
        "stream_health",
        "repeats",
        "Records read again, by offset; in the row of all, events that came again, by identity.",
    ),
    ("stream_health", "unreadable", "Records that are no events."),
    (
        "stream_health",
        "gaps",
        "Offsets that were passed over, or are known to be lost.",
    ),
    (
        "stream_health",
        "missing",
        "Records that a hub has numbered and that have not arrived; NULL where nothing is numbered, or nothing was \
         ever missing.",
    ),
    (
        "stream_health",
        "conflicts",
        "Changes of one replica, closer than clocks can tell, that say different states; in the row of all.",
    ),
    (
        "stream_health",
        "disagreements",
        "Changes that tell another size or checksum than an earlier one; in the row of all.",
    ),
    (
        "stream_health",
        "too_late",
        "Changes, and steps of transfers, that came too late to be judged; in the row of all.",
    ),
    (
        "stream_health",
        "epoch_age_s",
        "How long the published epoch took from its beginning until this row was made, in seconds.",
    ),
];

/// What a column of a view holds: by itself, or as in all views.
pub(super) fn meaning(view: &str, column: &str) -> Option<&'static str> {
    let of = |view: &str| {
        MEANINGS
            .iter()
            .find(|(v, c, _)| *v == view && *c == column)
            .map(|(_, _, meaning)| *meaning)
    };
    of(view).or_else(|| of(""))
}

/// The columns that are spoken of, each with its view.
#[cfg(test)]
pub(super) fn named() -> impl Iterator<Item = (&'static str, &'static str)> {
    MEANINGS.iter().map(|(view, column, _)| (*view, *column))
}
