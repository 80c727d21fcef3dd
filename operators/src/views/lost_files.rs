//! Lost files.
