//! Ingest backlog.
