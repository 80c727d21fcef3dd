//! Whole conversations, spoilt by a seeded generator: the server answers everybody else, and nothing of it panics.

use super::{
    raw::{Raw, framed},
    *,
};
use dbb_serving::panics;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::net::Shutdown;

const CONVERSATIONS: usize = 600;

/// What a driver says: a query, and a statement that is prepared, bound, described, executed and closed.
fn conversation() -> Vec<Vec<u8>> {
    let startup = framed(0, b"\x00\x03\x00\x00user\0ali\0database\0dbb\0\0");
    vec![
        startup[1..].to_vec(),
        framed(b'Q', b"select rse, files from rse_usage\0"),
        framed(
            b'P',
            b"s\0select $1::bigint + files from rse_usage\0\x00\x01\x00\x00\x00\x14",
        ),
        framed(b'D', b"Ss\0"),
        framed(
            b'B',
            b"p\0s\0\x00\x01\x00\x01\x00\x01\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x2a\x00\x01\x00\x01",
        ),
        framed(b'D', b"Pp\0"),
        framed(b'E', b"p\0\x00\x00\x00\x01"),
        framed(b'E', b"p\0\x00\x00\x00\x00"),
        framed(b'C', b"Ss\0"),
        framed(b'H', b""),
        framed(b'S', b""),
        framed(b'Q', b"select 1\0"),
        framed(b'X', b""),
    ]
}

/// A message left out, twice, in another place; bytes changed, with the length of the message or without.
fn spoil(messages: &mut Vec<Vec<u8>>, dice: &mut StdRng) {
    let at = dice.random_range(0..messages.len());
    match dice.random_range(0..5) {
        0 => drop(messages.remove(at)),
        1 => messages.insert(at, messages[dice.random_range(0..messages.len())].clone()),
        2 => {
            let other = dice.random_range(0..messages.len());
            messages.swap(at, other);
        }
        3 => {
            let byte = dice.random_range(0..messages[at].len());
            messages[at][byte] = *[0, 1, 0x7f, 0xff, dice.random()]
                .get(dice.random_range(0..5))
                .unwrap_or(&0);
        }
        _ => {
            let message = &mut messages[at];
            let body = 5.min(message.len());
            let cut = dice.random_range(body..=message.len());
            message.truncate(cut);
            if let Some(length) = message.get_mut(1..5) {
                length.copy_from_slice(&(cut as u32 - 1).to_be_bytes());
            }
        }
    }
}

#[test]
fn no_conversation_however_spoilt_makes_anything_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panics::is_of_a_door(panic) {
            default(panic);
        }
    }));
    let server = usage_server();
    let mut dice = StdRng::seed_from_u64(7);
    for number in 0..CONVERSATIONS {
        let mut messages = conversation();
        for _ in 0..dice.random_range(0..4) {
            spoil(&mut messages, &mut dice);
        }
        let mut raw = Raw::connect(&server);
        raw.say(&messages.concat());
        let _ = raw.0.shutdown(Shutdown::Write);
        raw.end();
        assert_eq!(
            panics::caught_so_far("sql"),
            0,
            "conversation {number}: {messages:?}"
        );
    }
    let mut client = Client::connect(&server, "");
    assert_eq!(client.query_one("select 1", &[]).unwrap().get::<_, i64>(0), 1);
}
