//! Whatever a broker sends, however it is cut, taking frames out of it ends, and a cut changes nothing.

#![no_main]

#[path = "../../sources/src/stomp/frame.rs"]
#[allow(dead_code)]
mod frame;

use bytes::BytesMut;
use frame::{Heard, Reader};
use libfuzzer_sys::fuzz_target;

/// Longest body, in bytes.
const MAX_BODY: usize = 200;

/// All frames, or those before the fault.
fn all(reader: &mut Reader, buffer: &mut BytesMut) -> (Vec<Heard>, bool) {
    let mut heard = Vec::new();
    loop {
        match reader.take(buffer) {
            Ok(Some(one)) => heard.push(one),
            Ok(None) => return (heard, true),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return (heard, false);
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, wire)) = bytes.split_first() else { return };
    let whole = all(&mut Reader::new(MAX_BODY), &mut BytesMut::from(wire));
    let (mut reader, mut buffer) = (Reader::new(MAX_BODY), BytesMut::new());
    let mut parts = (Vec::new(), true);
    for part in wire.chunks(usize::from(*cut) + 1) {
        buffer.extend_from_slice(part);
        let (heard, well) = all(&mut reader, &mut buffer);
        parts.0.extend(heard);
        if !well {
            parts.1 = false;
            break;
        }
    }
    assert_eq!(whole, parts);
});
