//! Dataset progress.
