//! Requests that never end, are too long, ask for too much, or are never read.

use super::target::{Target, hold, listen, say};
use crate::Dice;
use std::{
    io::Write,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

/// The status that `path` is answered with, in time.
pub(super) fn status(address: SocketAddr, path: &str) -> Option<u16> {
    let mut stream = say(
        address,
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes(),
    )?;
    let heard = listen(&mut stream, Duration::from_secs(5));
    let text = String::from_utf8_lossy(&heard);
    text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// Half requests, as many as a host can hold; probes are answered meanwhile.
pub(super) fn half_requests(target: &Target, _: &mut Dice) -> Vec<String> {
    let until = Instant::now() + target.hold;
    let held = hold(
        target.http,
        1000,
        b"GET /api/v1/views HTTP/1.1\r\nhost: localhost\r\n",
    );
    let mut wrong = Vec::new();
    loop {
        for path in ["/livez", "/metrics"] {
            match status(target.http, path) {
                Some(200) => {}
                other => wrong.push(format!("beside half requests {path} is answered with {other:?}")),
            }
        }
        if Instant::now() >= until {
            break;
        }
        thread::sleep(Duration::from_millis(200));
    }
    drop(held);
    wrong
}

/// Heads that come bit by bit, bodies that nobody wants, requests one behind the other.
pub(super) fn slow_and_long(target: &Target, _: &mut Dice) {
    let mut dripping = hold(target.http, 50, b"GET /livez HTTP/1.1\r\n");
    let until = Instant::now() + target.hold;
    while Instant::now() < until {
        for stream in &mut dripping {
            let _ = stream.write_all(b"a: b\r\n");
        }
        thread::sleep(Duration::from_millis(100));
    }
    drop(dripping);
    for bytes in [
        format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(1 << 20)),
        format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(1 << 20)),
        format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100_000)),
        "POST /livez HTTP/1.1\r\nhost: localhost\r\ncontent-length: 18446744073709551615\r\n\r\nx".into(),
        "POST /livez HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n"
            .into(),
        "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(5000),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
    ] {
        if let Some(mut stream) = say(target.http, bytes.as_bytes()) {
            listen(&mut stream, Duration::from_millis(300));
        }
    }
}

/// The same column, a thousand times over, from many at once.
pub(super) fn repeated_columns(target: &Target, _: &mut Dice) -> Vec<String> {
    let path = |columns: usize| {
        format!(
            "/api/v1/views/replicas?columns={}",
            vec!["name"; columns].join(",")
        )
    };
    let asking: Vec<_> = (0..16)
        .map(|_| {
            let (address, path) = (target.http, path(3000));
            thread::spawn(move || status(address, &path))
        })
        .collect();
    let answers = asking.into_iter().map(|asking| asking.join().ok().flatten());
    answers
        // Refused for the columns, or for the length of the head.
        .filter(|answer| !matches!(answer, Some(400 | 431) | None))
        .map(|answer| format!("3000 times the same column is answered with {answer:?}"))
        .collect()
}

/// Answers that nobody reads.
pub(super) fn unread(target: &Target, _: &mut Dice) -> Vec<String> {
    let ask = "GET /api/v1/views/replicas?format=ndjson HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(50);
    let held = hold(target.http, 300, ask.as_bytes());
    thread::sleep(target.hold);
    let answered = status(target.http, "/livez");
    drop(held);
    match answered {
        Some(200) => Vec::new(),
        other => vec![format!(
            "beside answers that nobody reads /livez is answered with {other:?}"
        )],
    }
}

/// A page of another host that a browser here was made to ask for.
pub(super) fn other_hosts(target: &Target, _: &mut Dice) -> Vec<String> {
    let mut wrong = Vec::new();
    for path in ["/api/v1/views", "/api/v1/views/replicas", "/metrics"] {
        let ask = format!("GET {path} HTTP/1.1\r\nhost: evil.example.org\r\nconnection: close\r\n\r\n");
        let heard =
            say(target.http, ask.as_bytes()).map(|mut stream| listen(&mut stream, Duration::from_secs(5)));
        let heard = heard.unwrap_or_default();
        if !heard.starts_with(b"HTTP/1.1 421") {
            let start = String::from_utf8_lossy(&heard[..heard.len().min(40)]).into_owned();
            wrong.push(format!(
                "{path}, asked by another's name, is answered with `{start}`"
            ));
        }
    }
    wrong
}
