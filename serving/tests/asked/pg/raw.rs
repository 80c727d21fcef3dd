//! A client of bytes, which says what no driver would.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

pub struct Raw(pub TcpStream);

/// A message of the server: its type and its body.
pub type Message = (u8, Vec<u8>);

pub fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    declared(kind, body.len() as u32 + 4, body)
}

/// A message whose length is what it is not.
pub fn declared(kind: u8, length: u32, body: &[u8]) -> Vec<u8> {
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

impl Raw {
    pub fn connect(server: &dbb_serving::pg::SqlServer) -> Self {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self(stream)
    }

    /// Says who it is, and hears all that is said to that.
    pub fn started(server: &dbb_serving::pg::SqlServer) -> Self {
        let mut raw = Self::connect(server);
        let startup = framed(0, b"\x00\x03\x00\x00user\0ali\0database\0dbb\0\0");
        raw.say(&startup[1..]);
        // Until it is asked for a password, or may ask.
        loop {
            match raw.hear().unwrap() {
                (b'Z', _) => return raw,
                (b'R', how) if how[..4] == [0, 0, 0, 10] => return raw,
                _ => {}
            }
        }
    }

    pub fn say(&mut self, bytes: &[u8]) {
        // It may have been cut off already.
        let _ = self.0.write_all(bytes);
    }

    pub fn hear(&mut self) -> Option<Message> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4;
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).ok()?;
        Some((head[0], body))
    }

    /// All that is said until the connection is closed.
    pub fn end(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.hear()).collect()
    }
}

/// State and message of an error.
pub fn error(message: &Message) -> (String, String) {
    assert_eq!(message.0, b'E', "{message:?}");
    let fields = message.1.split(|byte| *byte == 0);
    let text = fields.filter_map(|field| field.split_first());
    let of = |kind| {
        let mut text = text.clone();
        let found = text.find(|(field, _)| **field == kind);
        found.map_or_else(String::new, |(_, text)| {
            String::from_utf8_lossy(text).into_owned()
        })
    };
    (of(b'C'), of(b'M'))
}
