//! What a write asks of the tables and puts into them.

use crate::ledger::store::{Bulk, BulkKind, Lookup, Type::*};

pub(super) const HELD: Lookup = Lookup {
    select: "x.event, x.target, x.id, x.outcome, x.reason, x.detail, x.waits_for, x.attempts, \
             x.waiting_since, x.updated_at, x.generation, x.took, x.tries",
    table: "events",
    keys: &[("event", Blob), ("target", Int)],
    and: "",
};
/// The same of all rows of an event.
pub(super) const OF_EVENT: Lookup = Lookup {
    keys: &[("event", Blob)],
    ..HELD
};
pub(super) const VERSIONS: Lookup = Lookup {
    select: "x.did, x.target, x.version, x.event, x.outcome, x.rse",
    table: "files",
    keys: &[("did", Int), ("target", Int)],
    and: "",
};
pub(super) const WAITING_FOR: Lookup = Lookup {
    select: "x.id, x.target, x.waits_for, x.not_before",
    table: "events",
    keys: &[("target", Int), ("waits_for", Text)],
    and: " AND x.outcome = 5",
};
pub(super) const WAKE: Bulk = Bulk {
    kind: BulkKind::Update,
    table: "events",
    columns: &[("not_before", Int), ("id", Int)],
    keys: 1,
    tail: "",
};
pub(super) const REMOVE: Bulk = Bulk {
    kind: BulkKind::Delete,
    table: "events",
    columns: &[("id", Int)],
    keys: 1,
    tail: "",
};
/// What an answer does not tell (a dead letter has no URI) stays as an earlier one told it.
pub(super) const ROWS: Bulk = Bulk {
    kind: BulkKind::Insert,
    table: "events",
    columns: &[
        ("id", Int),
        ("did", Int),
        ("created_at", Int),
        ("first_seen_at", Int),
        ("updated_at", Int),
        ("position", Int),
        ("line", Int),
        ("not_before", Int),
        ("waiting_since", Int),
        ("appended_at", Int),
        ("target", Int),
        ("stream", Int),
        ("part", Int),
        ("topic", Int),
        ("event_type", Int),
        ("rse", Int),
        ("kind", Int),
        ("url_head", Int),
        ("uri_head", Int),
        ("reason", Int),
        ("verified", Int),
        ("attempts", Int),
        ("generation", Int),
        ("outcome", Int),
        ("event", Blob),
        ("url_tail", Text),
        ("uri_tail", Text),
        ("waits_for", Text),
        ("detail", Text),
        ("body", Blob),
        ("took", Int),
        ("tries", Int),
    ],
    keys: 0,
    tail: "ON CONFLICT (event, target) DO UPDATE SET \
           did = coalesce(excluded.did, events.did), \
           created_at = coalesce(excluded.created_at, events.created_at), \
           updated_at = excluded.updated_at, not_before = excluded.not_before, \
           waiting_since = excluded.waiting_since, appended_at = excluded.appended_at, \
           topic = coalesce(excluded.topic, events.topic), \
           event_type = coalesce(excluded.event_type, events.event_type), \
           rse = coalesce(excluded.rse, events.rse), kind = coalesce(excluded.kind, events.kind), \
           url_head = CASE WHEN excluded.url_head IS NULL AND excluded.url_tail IS NULL \
             THEN events.url_head ELSE excluded.url_head END, \
           url_tail = CASE WHEN excluded.url_head IS NULL AND excluded.url_tail IS NULL \
             THEN events.url_tail ELSE excluded.url_tail END, \
           uri_head = CASE WHEN excluded.uri_head IS NULL AND excluded.uri_tail IS NULL \
             THEN events.uri_head ELSE excluded.uri_head END, \
           uri_tail = CASE WHEN excluded.uri_head IS NULL AND excluded.uri_tail IS NULL \
             THEN events.uri_tail ELSE excluded.uri_tail END, \
           reason = excluded.reason, verified = coalesce(excluded.verified, events.verified), \
           attempts = excluded.attempts, generation = excluded.generation, outcome = excluded.outcome, \
           waits_for = excluded.waits_for, detail = excluded.detail, body = excluded.body, \
           took = excluded.took, tries = excluded.tries",
};
pub(super) const REPLACED: Bulk = Bulk {
    kind: BulkKind::Insert,
    table: "attempts",
    columns: &[
        ("id", Int),
        ("row_id", Int),
        ("at", Int),
        ("generation", Int),
        ("reason", Int),
        ("outcome", Int),
        ("waits_for", Text),
        ("detail", Text),
        ("took", Int),
    ],
    keys: 0,
    tail: "",
};
pub(super) const FILES: Bulk = Bulk {
    kind: BulkKind::Insert,
    table: "files",
    columns: &[
        ("did", Int),
        ("version", Int),
        ("updated_at", Int),
        ("target", Int),
        ("uri_head", Int),
        ("outcome", Int),
        ("event", Blob),
        ("uri_tail", Text),
        ("uuids", Blob),
        ("rse", Int),
    ],
    keys: 0,
    tail: "ON CONFLICT (did, target) DO UPDATE SET version = excluded.version, \
           updated_at = excluded.updated_at, outcome = excluded.outcome, event = excluded.event, \
           uuids = coalesce(excluded.uuids, files.uuids), \
           rse = CASE WHEN excluded.rse IS NULL AND excluded.uri_head IS NOT DISTINCT FROM files.uri_head \
             AND excluded.uri_tail IS NOT DISTINCT FROM files.uri_tail THEN files.rse ELSE excluded.rse END, \
           uri_head = CASE WHEN excluded.uri_head IS NULL AND excluded.uri_tail IS NULL \
             THEN files.uri_head ELSE excluded.uri_head END, \
           uri_tail = CASE WHEN excluded.uri_head IS NULL AND excluded.uri_tail IS NULL \
             THEN files.uri_tail ELSE excluded.uri_tail END",
};
pub(super) const MEMBERS: Bulk = Bulk {
    kind: BulkKind::Insert,
    table: "members",
    columns: &[("head", Blob), ("did", Int), ("target", Int)],
    keys: 0,
    tail: "ON CONFLICT DO NOTHING",
};
pub(super) const COUNTS: Bulk = Bulk {
    kind: BulkKind::Insert,
    table: "counts",
    columns: &[("stream", Int), ("part", Int), ("reason", Int), ("n", Int)],
    keys: 0,
    tail: "ON CONFLICT (stream, part, reason) DO UPDATE SET n = counts.n + excluded.n",
};
pub(super) const DURATIONS: Bulk = Bulk {
    kind: BulkKind::Insert,
    table: "durations",
    columns: &[("target", Int), ("outcome", Int), ("bucket", Int), ("n", Int)],
    keys: 0,
    tail: "ON CONFLICT (target, outcome, bucket) DO UPDATE SET n = durations.n + excluded.n",
};
pub(super) const COUNTED_TO: Bulk = Bulk {
    kind: BulkKind::Insert,
    table: "offsets",
    columns: &[
        ("stream", Int),
        ("part", Int),
        ("counted_to", Int),
        ("counted_of", Text),
    ],
    keys: 0,
    tail: "ON CONFLICT (stream, part) DO UPDATE SET counted_to = excluded.counted_to, \
           counted_of = excluded.counted_of",
};
