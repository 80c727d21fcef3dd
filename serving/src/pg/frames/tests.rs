//! What is taken and what is not, message by message.
#![allow(clippy::unwrap_used)]

use super::*;

const READY: Stage = Stage::Ready(1 << 20);

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

fn untyped(body: &[u8]) -> Vec<u8> {
    framed(0, body)[1..].to_vec()
}

/// One good message of each kind, with the stage at which it has its place.
pub(crate) fn good() -> Vec<(Stage, Vec<u8>)> {
    let bind = b"portal\0statement\0\x00\x02\x00\x00\x00\x01\x00\x02\x00\x00\x00\x03abc\xff\xff\xff\xff\x00\x01\x00\x01";
    let ready = [
        framed(b'Q', b"select 1\0"),
        framed(b'P', b"s\0select $1\0\x00\x01\x00\x00\x00\x17"),
        framed(b'B', bind),
        framed(b'B', b"\0\0\x00\x00\x00\x00\x00\x00"),
        framed(
            b'B',
            b"\0\0\x00\x01\x00\x01\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01x\x00\x00",
        ),
        framed(b'E', b"\0\xff\xff\xff\xff"),
        framed(b'D', b"S\0"),
        framed(b'D', b"Pportal\0"),
        framed(b'C', b"Sname\0"),
        framed(b'H', b""),
        framed(b'S', b""),
        framed(b'X', b""),
        framed(b'd', b"1\t2\n"),
        framed(b'c', b""),
        framed(b'f', b"no\0"),
    ];
    let first = [
        untyped(b"\x00\x03\x00\x00user\0me\0database\0dbb\0\0"),
        untyped(b"\x00\x03\x00\x02\0"),
        untyped(&SSL_REQUEST.to_be_bytes()),
        untyped(&GSS_REQUEST.to_be_bytes()),
        untyped(b"\x04\xd2\x16\x2e\x00\x00\x00\x07key!"),
    ];
    let ready = ready.into_iter().map(|message| (READY, message));
    let first = first.into_iter().map(|message| (Stage::Startup, message));
    let password = [
        (
            Stage::Mechanism,
            framed(b'p', b"SCRAM-SHA-256\0\x00\x00\x00\x02n,"),
        ),
        (Stage::Mechanism, framed(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xff")),
        (Stage::Proof, framed(b'p', b"c=,r=,p=")),
        (Stage::Proof, framed(b'p', b"")),
        (Stage::Proof, framed(b'X', b"")),
    ];
    ready.chain(first).chain(password).collect()
}

#[test]
fn good_messages_are_whole_when_their_last_byte_is_there() {
    for (stage, message) in good() {
        let whole = message.len();
        for cut in 0..whole {
            match judge(&message[..cut], stage).unwrap() {
                Judged::Part(least) => assert!(
                    least > cut && least <= whole.max(HEAD),
                    "{message:?} at {cut}: {least}"
                ),
                Judged::Whole(_) => panic!("{message:?} is not whole at {cut}"),
            }
        }
        assert_eq!(judge(&message, stage), Ok(Judged::Whole(whole)), "{message:?}");
        let followed = [&message[..], b"\xff\xff\xff\xff\xff\xff"].concat();
        assert_eq!(judge(&followed, stage), Ok(Judged::Whole(whole)), "{message:?}");
    }
}

/// A frame of another length than its fields have is none, whatever it is.
#[test]
fn no_good_message_stays_good_when_a_byte_of_its_body_is_missing_or_too_many() {
    for (stage, message) in good() {
        let start = usize::from(stage != Stage::Startup);
        let free = matches!(message[0], b'd') || stage == Stage::Proof && message[0] == b'p';
        let is_cancel = message[4..].starts_with(b"\x04\xd2\x16\x2e");
        if free || is_cancel {
            continue;
        }
        let body = &message[start + 4..];
        let shorter = (0..body.len()).map(|length| body[..length].to_vec());
        for body in shorter.chain([[body, b"\0"].concat()]) {
            let message = match start {
                0 => untyped(&body),
                _ => framed(message[0], &body),
            };
            assert!(judge(&message, stage).is_err(), "{message:?}");
        }
    }
}

#[test]
fn a_length_is_refused_as_soon_as_it_is_declared() {
    let wrong = |message: &[u8], stage| judge(message, stage).unwrap_err().to_string();
    for kind in *b"QPBEDCHSXdcf" {
        for length in [0, 1, 3, 1 << 30, 1 << 31, u32::MAX] {
            let message = [&[kind], &length.to_be_bytes()[..]].concat();
            let said = wrong(&message, READY);
            assert!(said.contains("by its own account"), "{said}");
        }
    }
    for stage in [Stage::Mechanism, Stage::Proof] {
        for length in [0, 3, 10_001u32, 1 << 30] {
            wrong(&[b"p", &length.to_be_bytes()[..]].concat(), stage);
        }
    }
    for length in [0, 4, 7, 10_001u32, 1 << 30, u32::MAX] {
        wrong(&length.to_be_bytes(), Stage::Startup);
    }
    assert_eq!(
        wrong(b"Q\x40\x00\x00\x00", Stage::Ready(1000)),
        "the Query message is 1073741824 bytes long by its own account, and at most 1000 are taken"
    );
}

#[test]
fn what_has_no_place_is_refused_by_its_first_byte() {
    let wrong = |kind: u8, stage| judge(&[kind], stage).unwrap_err().to_string();
    for kind in *b"QPBEDCHSFdcf\0\xff" {
        assert!(wrong(kind, Stage::Mechanism).contains("before the password was proven"));
    }
    assert_eq!(wrong(b'p', READY), "a password after the login");
    assert_eq!(wrong(b'Z', READY), "there is no message of type `Z`");
    assert_eq!(wrong(0, READY), "there is no message of type 0x00");
    assert!(wrong(b'F', READY).contains("function calls"));
}

#[test]
fn each_field_that_does_not_fit_is_named() {
    for (kind, body, said) in [
        (b'P', &b""[..], "the Parse message ends within its name"),
        (
            b'P',
            b"\0select 1\0",
            "the Parse message ends within its number of types",
        ),
        (
            b'P',
            b"\0select 1\0\x00\x02\x00\x00\x00\x17",
            "the Parse message ends within its types of parameters",
        ),
        (
            b'B',
            b"\0\0",
            "the Bind message ends within its formats of parameters",
        ),
        (
            b'B',
            b"\0\0\x00\x03\x00\x01",
            "the Bind message ends within its formats of parameters",
        ),
        (
            b'B',
            b"\0\0\x00\x00\x00\x01\x7f\xff\xff\xffx",
            "the Bind message ends within its values of parameters",
        ),
        (
            b'B',
            b"\0\0\x00\x00\x00\x01\x80\x00\x00\x00x",
            "the Bind message ends within its values of parameters",
        ),
        (
            b'B',
            b"\0\0\x00\x00\x00\x00",
            "the Bind message ends within its formats of columns",
        ),
        (
            b'B',
            b"\0\0\x00\x02\x00\x01\x00\x01\x00\x01\xff\xff\xff\xff\x00\x00",
            "a Bind message has 2 formats for 1 parameters",
        ),
        (
            b'B',
            b"\0\0\x00\x01\x00\x02\x00\x00\x00\x00",
            "the formats of parameters of a Bind message are 0 or 1 each",
        ),
        (b'E', b"", "the Execute message ends within its name of a portal"),
        (b'E', b"\0", "the Execute message ends within its number of rows"),
        (b'D', b"", "the Describe message ends within its kind of thing"),
        (b'C', b"T\0", "a Close message is of a statement or of a portal"),
        (b'Q', b"select 1", "the Query message ends within its statement"),
        (
            b'Q',
            b"select 1\0 + 1\0",
            "the Query message has 5 bytes more than its fields",
        ),
        (b'S', b"\0", "the Sync message has 1 bytes more than its fields"),
    ] {
        assert_eq!(judge(&framed(kind, body), READY).unwrap_err().to_string(), said);
    }
    for (body, said) in [
        (&b""[..], "the password message ends within its mechanism"),
        (b"SCRAM-SHA-256\0", "the password message ends within its numbers"),
        (
            b"SCRAM-SHA-256\0\xff\xff\xff\xfe",
            "the password message ends within its first response",
        ),
        (
            b"SCRAM-SHA-256\0\x7f\xff\xff\xff",
            "the password message ends within its first response",
        ),
        (
            b"SCRAM-SHA-256\0\x00\x00\x00\x00more",
            "the password message has 4 bytes more than its fields",
        ),
    ] {
        assert_eq!(
            judge(&framed(b'p', body), Stage::Mechanism)
                .unwrap_err()
                .to_string(),
            said
        );
    }
    for (body, said) in [
        (
            &b"\x00\x03\x00\x00"[..],
            "the startup message ends within its names of parameters",
        ),
        (
            b"\x00\x03\x00\x00user\0",
            "the startup message ends within its values of parameters",
        ),
        (
            b"\x00\x02\x00\x00user\0me\0\0",
            "version 2.0 of the protocol is not spoken here, but 3.0",
        ),
        (
            b"\x04\xd2\x16\x2e\x00\x00\x00\x07ke",
            "a cancel request has a key of 4 to 256 bytes, not of 2",
        ),
    ] {
        assert_eq!(
            judge(&untyped(body), Stage::Startup).unwrap_err().to_string(),
            said
        );
    }
}
