//! Whatever a stranger says to a process of a cluster, it is not believed.

#![no_main]

#[path = "../../dataflows/src/cluster/greeting.rs"]
#[allow(dead_code)]
mod greeting;

use greeting::{Heard, OPENING, Proof, Side, heard, opened};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(connecting)) = opened(bytes) else { return };
    let proof = Proof { token: b"open sesame", connecting, listening: [9; 32] };
    if let Ok(Heard::Signed(signed)) = heard(&bytes[OPENING..]) {
        for side in [Side::Connecting, Side::Listening] {
            assert!(matches!(proof.verified(side, signed), Ok(None)));
        }
    }
});
