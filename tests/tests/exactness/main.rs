//! Views of captured nights against the truth: Rucio's own table at the end of each. See `../../README.md`.

mod archive;
mod bad_input;
mod cases;
mod night;
mod oracle;
mod replay;
mod same_bytes;
mod truth;
