//! Frames of STOMP 1.2, as bytes and back.
//!
//! ```text
//!   COMMAND \n (header:value \n)* \n body \0          a bare \n between frames is a heart-beat
//! ```
//!
//! In:    bytes of a connection, cut anywhere.
//! Out:   whole frames, whose bodies share the memory of what was read; or one sentence that says what is broken.
//! State: none; the caller keeps what is not a whole frame yet.

use bytes::{Buf, Bytes, BytesMut};
use std::{borrow::Cow, fmt};

/// Longest command and headers together, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Longest body, in bytes: more than brokers take by default.
const MAX_BODY: usize = 256 * 1024 * 1024;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub command: Command,
    /// In their order; of two with the same name the first counts.
    pub headers: Vec<(String, String)>,
    /// What it carries.
    pub body: Bytes,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Command {
    // To the broker.
    Connect,
    Subscribe,
    Ack,
    Disconnect,
    // From the broker.
    Connected,
    Message,
    Receipt,
    Error,
}

/// What a broker said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// That it is there.
    HeartBeat,
    /// Something.
    Frame(Frame),
}

/// Bytes that are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A word that no broker says.
    #[error(
        "`{0}` is no command of STOMP: is this the port of a STOMP broker, with or without TLS as configured?"
    )]
    Command(String),
    /// A header without a colon, or with an escape there is none of.
    #[error("a header that is none: `{0}`")]
    Header(String),
    /// A length that is none, or is not that of the body.
    #[error("a content-length of `{0}` that is not the length of the body")]
    Length(String),
    /// No end in sight.
    #[error("{what} is longer than {limit} bytes")]
    TooLong {
        /// The headers or the body.
        what: &'static str,
        /// The most that is read.
        limit: usize,
    },
}

const COMMANDS: [(Command, &str); 8] = [
    (Command::Connect, "CONNECT"),
    (Command::Subscribe, "SUBSCRIBE"),
    (Command::Ack, "ACK"),
    (Command::Disconnect, "DISCONNECT"),
    (Command::Connected, "CONNECTED"),
    (Command::Message, "MESSAGE"),
    (Command::Receipt, "RECEIPT"),
    (Command::Error, "ERROR"),
];

impl Command {
    fn as_str(self) -> &'static str {
        COMMANDS
            .iter()
            .find_map(|(command, word)| (*command == self).then_some(*word))
            .unwrap_or_default()
    }

    /// In these two nothing is escaped, for the sake of older versions.
    fn is_bare(self) -> bool {
        matches!(self, Command::Connect | Command::Connected)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Frame {
    /// A frame without headers and body.
    pub fn new(command: Command) -> Self {
        Self {
            command,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// The same with one more header.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Appends its bytes to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let bare = self.command.is_bare();
        let text = |text: &str| -> Vec<u8> {
            if bare {
                // Nothing could be written in place of it.
                text.replace(['\n', '\r', '\0'], "").into_bytes()
            } else {
                escape(text).into_owned().into_bytes()
            }
        };
        out.extend_from_slice(self.command.as_str().as_bytes());
        out.push(b'\n');
        for (name, value) in &self.headers {
            out.extend_from_slice(&text(name));
            out.push(b':');
            out.extend_from_slice(&text(value));
            out.push(b'\n');
        }
        out.push(b'\n');
        out.extend_from_slice(&self.body);
        out.push(0);
    }
}

/// Takes the first heart-beat or frame out of `buffer`; `None` if it is not whole yet.
///
/// # Errors
///
/// [`FrameError`]: nothing that follows can be made sense of either.
pub fn take(buffer: &mut BytesMut) -> Result<Option<Heard>, FrameError> {
    match buffer.as_ref() {
        [b'\n', ..] => {
            buffer.advance(1);
            return Ok(Some(Heard::HeartBeat));
        }
        [b'\r', b'\n', ..] => {
            buffer.advance(2);
            return Ok(Some(Heard::HeartBeat));
        }
        _ => {}
    }
    let mut lines = Lines { bytes: buffer, at: 0 };
    let Some(word) = lines.next()? else {
        // What does not even begin like a command will never be one.
        return begins(buffer)
            .then_some(None)
            .ok_or_else(|| FrameError::Command(shown(buffer)));
    };
    let command = COMMANDS.iter().find(|(_, known)| known.as_bytes() == word);
    let Some((command, _)) = command else {
        return Err(FrameError::Command(shown(word)));
    };
    let mut headers = Vec::new();
    loop {
        let Some(line) = lines.next()? else {
            return Ok(None);
        };
        if line.is_empty() {
            break;
        }
        headers.push(header(line, command.is_bare()).ok_or_else(|| FrameError::Header(shown(line)))?);
    }
    let from = lines.at;
    let mut frame = Frame {
        command: *command,
        headers,
        body: Bytes::new(),
    };
    let Some(length) = body(&buffer[from..], frame.header("content-length"))? else {
        return Ok(None);
    };
    buffer.advance(from);
    frame.body = buffer.split_to(length).freeze();
    buffer.advance(1);
    Ok(Some(Heard::Frame(frame)))
}

/// The length of the body that `rest` begins with; `None` if its end has not come.
fn body(rest: &[u8], length: Option<&str>) -> Result<Option<usize>, FrameError> {
    let too_long = |length| FrameError::TooLong {
        what: "a body",
        limit: length,
    };
    let Some(length) = length else {
        let end = memchr::memchr(0, rest);
        return match end {
            None if rest.len() > MAX_BODY => Err(too_long(MAX_BODY)),
            end => Ok(end),
        };
    };
    let wrong = || FrameError::Length(length.into());
    let bytes: usize = length.trim().parse().map_err(|_| wrong())?;
    if bytes > MAX_BODY {
        return Err(too_long(MAX_BODY));
    }
    match rest.get(bytes) {
        None => Ok(None),
        Some(0) => Ok(Some(bytes)),
        Some(_) => Err(wrong()),
    }
}

/// Lines of the head, without their ends.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<Option<&'a [u8]>, FrameError> {
        let rest = &self.bytes[self.at..];
        let end = memchr::memchr(b'\n', rest);
        if self.at + end.unwrap_or(rest.len()) > MAX_HEAD {
            return Err(FrameError::TooLong {
                what: "the head of a frame",
                limit: MAX_HEAD,
            });
        }
        let Some(end) = end else { return Ok(None) };
        self.at += end + 1;
        let line = &rest[..end];
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }
}

/// True if `bytes` may become a command.
fn begins(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    COMMANDS
        .iter()
        .any(|(_, word)| word.as_bytes().starts_with(bytes))
}

fn header(line: &[u8], bare: bool) -> Option<(String, String)> {
    let line = std::str::from_utf8(line).ok()?;
    let (name, value) = line.split_once(':')?;
    if bare {
        return Some((name.into(), value.into()));
    }
    Some((unescape(name)?.into_owned(), unescape(value)?.into_owned()))
}

fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '\n', '\r', ':', '\0']) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            ':' => escaped.push_str("\\c"),
            // There is no way to write it.
            '\0' => {}
            c => escaped.push(c),
        }
    }
    escaped.into()
}

fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('\\') {
        return Some(text.into());
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                'c' => ':',
                _ => return None,
            },
            c => c,
        });
    }
    Some(plain.into())
}

/// The start of what came, for people.
fn shown(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(40)];
    start.escape_ascii().to_string()
}

#[cfg(test)]
#[path = "frame/tests.rs"]
mod tests;
