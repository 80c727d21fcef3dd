//! Whatever the scanner takes, decoding takes as well, and finds the same.

#![no_main]

use dbb_events::{decode, decode_record, scan, unmarked};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Some(scanned) = scan(body) else { return };
    match decode(body) {
        Ok(event) => {
            assert_eq!(scanned, event.glimpse());
            assert_eq!(scanned.identity(body), event.identity(body));
        }
        Err(error) => panic!("scanned, but {error}"),
    }
    assert_eq!(&*decode_record(body).body, unmarked(body));
});
