//! Whatever a client of SQL sends, and however it is cut, judging it answers, and a cut changes nothing.

#![no_main]

#[path = "../../serving/src/pg/frames.rs"]
#[allow(dead_code)]
mod frames;

use frames::{Judged, Stage, judge};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((stage, wire)) = bytes.split_first() else { return };
    let stage = match stage % 4 {
        0 => Stage::Startup,
        1 => Stage::Mechanism,
        2 => Stage::Proof,
        _ => Stage::Ready(1 << 20),
    };
    let judged = judge(wire, stage);
    for cut in 0..wire.len().min(64) {
        match (judge(&wire[..cut], stage), &judged) {
            (Ok(Judged::Part(least)), _) => assert!(least > cut),
            // What is wrong, or whole, early stays so.
            (early, judged) => assert_eq!(&early, judged),
        }
    }
});
