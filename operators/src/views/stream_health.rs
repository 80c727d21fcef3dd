//! Stream health.
