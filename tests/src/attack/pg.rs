//! Frames of the PostgreSQL protocol as no client sends them, and connections that send too much or nothing.

use super::target::{Target, connect, hold, listen, say};
use crate::Dice;
use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// How long the answer to a frame is waited for: most are answered, or end the connection, at once.
const ANSWER: Duration = Duration::from_millis(300);

/// The first message, of a user who asks for a database.
pub(super) fn startup(user: &str) -> Vec<u8> {
    let words = format!("user\0{user}\0database\0dbb\0\0");
    let mut bytes = (8 + words.len() as u32).to_be_bytes().to_vec();
    bytes.extend(196_608u32.to_be_bytes());
    bytes.extend(words.as_bytes());
    bytes
}

/// A frame that says how long it is, which may be wrong.
fn lying(kind: u8, length: u32, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

pub(super) fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    lying(kind, body.len() as u32 + 4, body)
}

/// A connection that is logged in where no password is asked for.
pub(super) fn login(address: SocketAddr) -> Option<TcpStream> {
    let mut stream = say(address, &startup("attacker"))?;
    let mut heard = Vec::new();
    let since = Instant::now();
    // ReadyForQuery is the last that comes.
    while !heard.ends_with(b"Z\0\0\0\x05I") && since.elapsed() < Duration::from_secs(5) {
        let more = listen(&mut stream, Duration::from_millis(50));
        heard.extend(more);
    }
    heard.ends_with(b"Z\0\0\0\x05I").then_some(stream)
}

fn text(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Frames that are too short for what they are, that lie about their length, or whose parts do.
fn broken() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for kind in b"PBEDCQpFdcfHSX\0\xff" {
        for length in [0u32, 1, 3, 4, 5, 8, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
            all.push(lying(*kind, length, &[0; 12]));
            all.push(lying(*kind, length, b""));
        }
    }
    let bind = |rest: &[u8]| frame(b'B', &text(&[b"\0\0", rest]));
    all.extend([
        // Bind: without formats, with more of them than there are, with lengths that are none.
        bind(b""),
        bind(&[0x7f, 0xff]),
        bind(&[0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff]),
        bind(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe]),
        bind(&[0, 1, 0, 9, 0, 0, 0, 0]),
        // Parse: without the number of types, with more than there are, without an end.
        frame(b'P', b"\0select 1\0"),
        frame(b'P', b"\0select 1\0\x7f\xff"),
        frame(b'P', b"without an end"),
        frame(b'Q', b"select 1"),
        frame(b'Q', &[0xff, 0xfe, 0]),
        frame(b'D', b"X\0"),
        frame(b'D', b"S"),
        frame(b'C', b"P"),
        frame(b'E', b"\0"),
        frame(b'E', b"portal\0\x80\0\0\0"),
    ]);
    all
}

/// What is answered to a request for a password, and is none.
fn passwords() -> Vec<Vec<u8>> {
    let sasl =
        |length: i32, rest: &[u8]| frame(b'p', &text(&[b"SCRAM-SHA-256\0", &length.to_be_bytes(), rest]));
    vec![
        frame(b'p', b""),
        lying(b'p', 0, b""),
        lying(b'p', 3, b""),
        lying(b'p', 0x7fff_ffff, b"x"),
        frame(b'p', b"\0"),
        frame(b'p', b"SCRAM-SHA-256\0"),
        frame(b'p', b"SCRAM-SHA-256"),
        sasl(0, b""),
        sasl(-1, b""),
        sasl(-2, b"n,,n=,r=x"),
        sasl(i32::MAX, b"n,,n=,r=x"),
        sasl(i32::MIN, b""),
        sasl(9, b"n,,n=,r="),
        sasl(4, b"\xff\xfe\0\0"),
        frame(b'p', b"PLAIN\0\0\0\0\0"),
    ]
}

/// First messages that are none.
fn greetings() -> Vec<Vec<u8>> {
    let lengths = [0u32, 4, 7, 8, 9, 0x7fff_ffff, 0xffff_ffff];
    let mut all: Vec<Vec<u8>> = lengths
        .iter()
        .map(|length| text(&[&length.to_be_bytes(), &196_608u32.to_be_bytes()]))
        .collect();
    for code in [80_877_102u32, 80_877_103, 80_877_104, 0, 131_072, 0xffff_ffff] {
        all.push(text(&[&8u32.to_be_bytes(), &code.to_be_bytes()]));
        all.push(text(&[&16u32.to_be_bytes(), &code.to_be_bytes(), &[0xff; 8]]));
    }
    let no_end = startup("x");
    all.push(no_end[..no_end.len() - 2].to_vec());
    all.push(b"GET / HTTP/1.1\r\n\r\n".to_vec());
    // TLS, where none is spoken.
    all.push(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec());
    all
}

/// Frames where a password is asked for.
pub(super) fn before_login(target: &Target, _: &mut Dice) {
    for bytes in greetings() {
        if let Some(mut stream) = say(target.sql, &bytes) {
            listen(&mut stream, ANSWER / 3);
        }
    }
    for bytes in passwords().into_iter().chain(broken()) {
        if let Some(mut stream) = say(target.sql, &text(&[&startup("ali"), &bytes])) {
            listen(&mut stream, ANSWER / 3);
        }
    }
    // The answer to the challenge, too.
    let first = b"n,,n=ali,r=abcdefghijklmnop";
    let first = frame(
        b'p',
        &text(&[b"SCRAM-SHA-256\0", &(first.len() as u32).to_be_bytes(), first]),
    );
    for last in [&b""[..], b"c=biws", b"c=biws,r=,p=", b"c=\xff,r=x,p=x", b"p=,,,,"] {
        if let Some(mut stream) = say(target.sql, &text(&[&startup("ali"), &first])) {
            listen(&mut stream, ANSWER / 3);
            let _ = stream.write_all(&frame(b'p', last));
            listen(&mut stream, ANSWER / 3);
        }
    }
}

/// The same frames from one who is logged in.
pub(super) fn after_login(target: &Target, _: &mut Dice) {
    for bytes in greetings().into_iter().chain(broken()) {
        let Some(mut stream) = login(target.sql) else {
            continue;
        };
        let _ = stream.write_all(&bytes);
        // Whatever it was, something is said after it.
        let _ = stream.write_all(&text(&[&frame(b'S', b""), &frame(b'Q', b"select 1\0")]));
        listen(&mut stream, ANSWER / 3);
    }
}

/// Parameters in binary that are not as long as their type.
pub(super) fn short_parameters(target: &Target, _: &mut Dice) {
    // interval, timestamptz, numeric, int8, uuid, float8[], bool.
    for oid in [1186u32, 1184, 1700, 20, 2950, 1022, 16] {
        for length in [0usize, 1, 3, 7, 9, 17] {
            let Some(mut stream) = login(target.sql) else {
                continue;
            };
            let parse = text(&[b"\0select $1\0", &1u16.to_be_bytes(), &oid.to_be_bytes()]);
            let bind = text(&[
                b"\0\0",
                &[0, 1, 0, 1, 0, 1],
                &(length as u32).to_be_bytes(),
                &vec![0xff; length],
                &[0, 1, 0, 1],
            ]);
            let _ = stream.write_all(&text(&[
                &frame(b'P', &parse),
                &frame(b'B', &bind),
                &frame(b'E', b"\0\0\0\0\0"),
                &frame(b'S', b""),
            ]));
            listen(&mut stream, ANSWER / 6);
        }
    }
}

/// Good conversations in which some bytes have been changed.
pub(super) fn mutated(target: &Target, dice: &mut Dice) {
    let good = text(&[
        &frame(b'P', b"s\0select $1 + 1\0\0\x01\0\0\0\x17"),
        &frame(b'D', b"Ss\0"),
        &frame(b'B', b"p\0s\0\0\x01\0\x01\0\x01\0\0\0\x04\0\0\0\x07\0\x01\0\x01"),
        &frame(b'E', b"p\0\0\0\0\0"),
        &frame(b'C', b"Pp\0"),
        &frame(b'S', b""),
        &frame(b'Q', b"select 1\0"),
    ]);
    let until = Instant::now() + target.hold;
    while Instant::now() < until {
        let Some(mut stream) = login(target.sql) else {
            continue;
        };
        let mut bytes = good.clone();
        for _ in 0..=dice.below(4) {
            let at = dice.below(bytes.len() as u64) as usize;
            match dice.below(3) {
                0 => bytes[at] = dice.below(256) as u8,
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, [0, 0xff, 0x7f, 0x80][dice.below(4) as usize]),
            }
        }
        let _ = stream.write_all(&bytes);
        listen(&mut stream, ANSWER / 10);
    }
}

/// Connections that say nothing, or half of something.
pub(super) fn silent(target: &Target, _: &mut Dice) {
    let half = startup("attacker");
    let held = [
        hold(target.sql, 300, b""),
        hold(target.sql, 200, &half[..6]),
        hold(target.sql, 100, &[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f]),
    ];
    thread::sleep(target.hold);
    drop(held);
}

/// Almost a gigabyte: a little more is refused by the library itself.
const GIGABYTE: u32 = 0x3ff0_0000;

/// Strangers who say that a gigabyte comes, and send what is taken of it.
pub(super) fn declared_gigabyte(target: &Target, _: &mut Dice) {
    let first = text(&[&GIGABYTE.to_be_bytes(), &196_608u32.to_be_bytes(), b"user\0"]);
    let query = text(&[&startup("attacker"), &lying(b'Q', GIGABYTE, b"select '")]);
    let parse = text(&[&startup("attacker"), &lying(b'P', GIGABYTE, b"\0select '")]);
    let until = Instant::now() + target.hold;
    let senders: Vec<_> = [first, query, parse]
        .iter()
        .cycle()
        .take(24)
        .cloned()
        .map(|begin| {
            let sql = target.sql;
            thread::spawn(move || {
                let Some(mut stream) = say(sql, &begin) else {
                    return;
                };
                let letters = vec![b'x'; 64 * 1024];
                let _ = stream.set_write_timeout(Some(Duration::from_millis(500)));
                while Instant::now() < until && stream.write_all(&letters).is_ok() {}
            })
        })
        .collect();
    for sender in senders {
        let _ = sender.join();
    }
}

/// Prepared statements without end, on some connections, none of which is ever closed.
pub(super) fn prepared_without_end(target: &Target, _: &mut Dice) {
    let until = Instant::now() + target.hold;
    let preparers: Vec<_> = (0..8)
        .map(|_| {
            let sql = target.sql;
            thread::spawn(move || {
                let Some(mut stream) = login(sql) else { return };
                let columns: Vec<String> = (0..300).map(|n| format!("{n} as c{n}")).collect();
                let statement = format!("select {}", columns.join(", "));
                for n in 0.. {
                    let parse = format!("s{n}\0{statement}\0\0\0");
                    let all = text(&[&frame(b'P', parse.as_bytes()), &frame(b'S', b"")]);
                    if Instant::now() >= until || stream.write_all(&all).is_err() {
                        return;
                    }
                    listen(&mut stream, Duration::from_millis(20));
                }
            })
        })
        .collect();
    for preparer in preparers {
        let _ = preparer.join();
    }
}

/// Cancels of nobody's statement, many of them.
pub(super) fn cancels(target: &Target, dice: &mut Dice) {
    for _ in 0..200 {
        let key = (dice.below(1 << 32) as u32).to_be_bytes();
        let cancel = text(&[&16u32.to_be_bytes(), &80_877_102u32.to_be_bytes(), &key, &key]);
        drop(say(target.sql, &cancel));
    }
    // And with keys that are too short, or too long.
    for length in [8u32, 9, 12, 15, 17, 300] {
        let mut cancel = text(&[&length.to_be_bytes(), &80_877_102u32.to_be_bytes()]);
        cancel.resize(length as usize, 0xff);
        if let Some(mut stream) = connect(target.sql) {
            let _ = stream.write_all(&cancel);
            listen(&mut stream, ANSWER / 3);
        }
    }
}
