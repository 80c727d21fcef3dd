//! Frames: whatever a client of SQL sends, judging it answers; and what is taken, the library decodes to its last byte.

#[path = "../../../serving/src/pg/frames.rs"]
#[allow(dead_code)]
mod judged;

use crate::Target;
use bytes::BytesMut;
use judged::{Judged, Stage, judge};
use pgwire::messages::{DecodeContext, PgWireFrontendMessage};

/// Most bytes of a message, here.
const MOST: usize = 1 << 16;

pub(crate) fn target() -> Target {
    Target {
        seeds: seeds(),
        takes: |input, dice| {
            let stages = [
                Stage::Startup,
                Stage::Mechanism,
                Stage::Proof,
                Stage::Ready(MOST),
                Stage::Ready(MOST),
            ];
            let stage = *dice.one_of(&stages).unwrap_or(&Stage::Startup);
            takes(input, stage)
        },
    }
}

/// Messages of all kinds, of one byte too many here and there already.
fn seeds() -> Vec<Vec<u8>> {
    let framed = |kind: &[u8], body: &[u8]| {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [kind, &length, body].concat()
    };
    let bind = b"portal\0statement\0\x00\x02\x00\x00\x00\x01\x00\x02\x00\x00\x00\x03abc\xff\xff\xff\xff\x00\x01\x00\x01";
    let typed = [
        (b"Q", &b"select 1\0"[..]),
        (b"P", b"s\0select $1\0\x00\x01\x00\x00\x00\x17"),
        (b"B", bind),
        (
            b"B",
            b"\0\0\x00\x00\x00\x01\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x2a\x00\x00",
        ),
        (b"E", b"\0\x00\x00\x00\x64"),
        (b"D", b"Sname\0"),
        (b"C", b"P\0"),
        (b"H", b""),
        (b"S", b""),
        (b"X", b""),
        (b"d", b"1\t2\n"),
        (b"c", b""),
        (b"f", b"no\0"),
        (b"F", b"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00"),
        (b"p", b"SCRAM-SHA-256\0\x00\x00\x00\x15n,,n=,r=abcdefghijklm"),
        (b"p", b"c=biws,r=abcdefghijklm,p=AAAA"),
        (b"p", b"password\0"),
    ];
    let first = [
        &b"\x00\x03\x00\x00user\0me\0database\0dbb\0\0"[..],
        b"\x00\x03\x00\x02user\0me\0options\0-c datestyle=iso\0\0",
        b"\x04\xd2\x16\x2f",
        b"\x04\xd2\x16\x30",
        b"\x04\xd2\x16\x2e\x00\x00\x00\x07key!",
    ];
    let typed = typed.map(|(kind, body)| framed(kind, body));
    let first = first.map(|body| framed(b"", body));
    typed.into_iter().chain(first).collect()
}

fn takes(input: &[u8], stage: Stage) -> bool {
    let whole = match judge(input, stage) {
        Err(fault) => {
            assert!(!fault.to_string().is_empty());
            return false;
        }
        Ok(Judged::Part(least)) => {
            assert!(least > input.len() && least <= MOST + 1);
            return false;
        }
        Ok(Judged::Whole(whole)) => whole,
    };
    assert_eq!(judge(&input[..whole], stage), Ok(Judged::Whole(whole)));
    let mut frame = BytesMut::from(&input[..whole]);
    let mut context = DecodeContext::default();
    context.awaiting_frontend_ssl = stage == Stage::Startup && is_wish(&frame);
    context.awaiting_frontend_startup = stage == Stage::Startup;
    match PgWireFrontendMessage::decode(&mut frame, &context) {
        Ok(Some(message)) => {
            assert!(frame.is_empty(), "{} bytes are left of {message:?}", frame.len());
            if let PgWireFrontendMessage::PasswordMessageFamily(password) = message {
                let _ = match stage {
                    Stage::Mechanism => password.into_sasl_initial_response().map(drop),
                    _ => password.into_sasl_response().map(drop),
                };
            }
        }
        Ok(None) => panic!("what is whole is not whole for the library"),
        Err(_) => return false,
    }
    true
}

fn is_wish(frame: &[u8]) -> bool {
    matches!(frame.get(4..8), Some(b"\x04\xd2\x16\x2f" | b"\x04\xd2\x16\x30"))
}
