//! Frames of STOMP 1.2, as bytes and back.
//!
//! ```text
//!   COMMAND \n (header:value \n)* \n body \0          a bare \n between frames is a heart-beat
//! ```
//!
//! In:    bytes of a connection, cut anywhere.
//! Out:   whole frames, whose bodies are memory of their own; or one sentence that says what is broken.
//! State: the head of a frame whose body has not come yet, and how far that was looked through: however small the
//!        pieces, each byte is looked at once. The caller keeps the bytes.

use bytes::{Buf, Bytes, BytesMut};
use std::{borrow::Cow, fmt};

/// Longest command and headers together, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// More than any command has, in bytes: so much of a frame that may become one has its first line.
const LONGEST_WORD: usize = 16;

/// A buffer that was needed for a longer body than this is not kept, in bytes.
const KEPT: usize = 256 * 1024;

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
    Begin,
    Abort,
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
    /// A command and headers without an end in sight.
    #[error("the head of a frame is longer than {MAX_HEAD} bytes")]
    LongHead,
    /// A body that is longer than may be.
    #[error("the body of {frame} has {least} bytes or more, and `max_message_bytes` is {limit}")]
    LongBody {
        /// Its command, and its name where it has one.
        frame: String,
        /// What it says of its length, or what has come of it.
        least: usize,
        /// The most that is read.
        limit: usize,
    },
}

const COMMANDS: [(Command, &str); 10] = [
    (Command::Connect, "CONNECT"),
    (Command::Subscribe, "SUBSCRIBE"),
    (Command::Ack, "ACK"),
    (Command::Begin, "BEGIN"),
    (Command::Abort, "ABORT"),
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

/// Takes heart-beats and frames out of what comes.
#[derive(Debug)]
pub struct Reader {
    max_body: usize,
    /// A frame whose body has not come whole, and the length that it says of it.
    begun: Option<(Frame, Option<usize>)>,
    /// So many bytes are known not to hold the end of what is read.
    looked: usize,
}

impl Reader {
    /// Reads frames whose bodies have at most `max_body` bytes.
    pub fn new(max_body: usize) -> Self {
        Self {
            max_body,
            begun: None,
            looked: 0,
        }
    }

    /// Takes the first heart-beat or frame out of `buffer`, to which bytes may only be added between calls; `None` if it is
    /// not whole yet.
    ///
    /// # Errors
    ///
    /// [`FrameError`]: nothing that follows can be made sense of either.
    pub fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Heard>, FrameError> {
        let (frame, length) = match self.begun.take() {
            Some(begun) => begun,
            None => {
                if let Some(beat) = beat(buffer) {
                    buffer.advance(beat);
                    return Ok(Some(Heard::HeartBeat));
                }
                // Behind its first line only another line end can make it whole.
                let is_begun = self.looked > LONGEST_WORD;
                let has_line = || memchr::memchr(b'\n', &buffer[self.looked..]).is_some();
                if is_begun && buffer.len() <= MAX_HEAD && !has_line() {
                    self.looked = buffer.len();
                    return Ok(None);
                }
                self.looked = buffer.len();
                let Some((frame, from)) = head(buffer)? else {
                    return Ok(None);
                };
                buffer.advance(from);
                self.looked = 0;
                let length = self.length(&frame)?;
                (frame, length)
            }
        };
        let end = match length {
            Some(length) => (buffer.len() > length).then_some(length),
            None => memchr::memchr(0, &buffer[self.looked..]).map(|end| self.looked + end),
        };
        let least = end.unwrap_or(buffer.len());
        if length.is_none() && least > self.max_body {
            return Err(self.long_body(&frame, least));
        }
        let Some(end) = end else {
            self.looked = buffer.len();
            self.begun = Some((frame, length));
            return Ok(None);
        };
        if buffer[end] != 0 {
            return Err(FrameError::Length(end.to_string()));
        }
        self.looked = 0;
        // A copy: a short message must not hold all that came around it.
        let body = Bytes::copy_from_slice(&buffer[..end]);
        buffer.advance(end + 1);
        if end > KEPT {
            *buffer = BytesMut::from(&buffer[..]);
        }
        Ok(Some(Heard::Frame(Frame { body, ..frame })))
    }

    /// What a frame says of the length of its body.
    fn length(&self, frame: &Frame) -> Result<Option<usize>, FrameError> {
        let Some(length) = frame.header("content-length") else {
            return Ok(None);
        };
        let bytes = length.trim().parse();
        let bytes = bytes.map_err(|_| FrameError::Length(shown(length.as_bytes())))?;
        if bytes > self.max_body {
            return Err(self.long_body(frame, bytes));
        }
        Ok(Some(bytes))
    }

    fn long_body(&self, frame: &Frame, least: usize) -> FrameError {
        let name = frame.header("message-id").map(|id| shown(id.as_bytes()));
        FrameError::LongBody {
            frame: name.map_or_else(
                || frame.command.to_string(),
                |name| format!("{} `{name}`", frame.command),
            ),
            least,
            limit: self.max_body,
        }
    }
}

/// The length of the heart-beat that `bytes` begin with.
fn beat(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'\n', ..] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        _ => None,
    }
}

/// The frame that `bytes` begin with, without its body, and where that begins; `None` if its head is not whole.
fn head(bytes: &[u8]) -> Result<Option<(Frame, usize)>, FrameError> {
    let mut lines = Lines { bytes, at: 0 };
    let Some(word) = lines.next()? else {
        // What does not even begin like a command will never be one.
        return begins(bytes)
            .then_some(None)
            .ok_or_else(|| FrameError::Command(shown(bytes)));
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
    let frame = Frame {
        command: *command,
        headers,
        body: Bytes::new(),
    };
    Ok(Some((frame, lines.at)))
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
            return Err(FrameError::LongHead);
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
