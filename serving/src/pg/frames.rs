//! Frames: whether what a client sends is a message of the PostgreSQL protocol, judged before anything decodes it.
//!
//! ```text
//!   bytes --> type --> has it a place here? --> length --> is it allowed? --> all bytes are there --> fields --> whole
//! ```
//!
//! In:    the bytes received so far, and how far the conversation has come.
//! Out:   how long the first message is, once all of it is there; or the one sentence that is wrong with it.
//! State: none, and nothing is reserved for a length that was only declared.
//!
//! Every field of every message lies inside its frame, and the fields fill it. This file depends on nothing, so that it is
//! also judged alone, by `fuzz/`.

use std::fmt;

/// Most bytes of a message before somebody has logged in, and of one that has no text or values; PostgreSQL's own bound.
pub(crate) const SMALL: usize = 10_000;
/// Bytes of type and length.
const HEAD: usize = 5;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// How far a conversation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing was said, or only that encryption is wished for.
    Startup,
    /// The way to prove the password is to be chosen.
    Mechanism,
    /// The password is being proven.
    Proof,
    /// Logged in; a message has at most so many bytes.
    Ready(usize),
}

/// What the bytes received so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// They begin with a whole message of so many bytes.
    Whole(usize),
    /// They are the beginning of a message of at least so many bytes.
    Part(usize),
}

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault(String);

impl Fault {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

fn fault<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::new(what))
}

/// Judges the first message of `received`.
///
/// # Errors
///
/// It is none, or none that has a place at this `stage`; what follows it cannot be read either.
pub(crate) fn judge(received: &[u8], stage: Stage) -> Result<Judged, Fault> {
    let (message, start) = match stage {
        Stage::Startup => (
            Message {
                name: "startup",
                most: SMALL,
            },
            0,
        ),
        _ => match received.first() {
            None => return Ok(Judged::Part(HEAD)),
            Some(kind) => (Message::of(*kind, stage)?, 1),
        },
    };
    let Message { name, most } = message;
    let Some(length) = received
        .get(start..start + 4)
        .and_then(|bytes| bytes.try_into().ok())
    else {
        return Ok(Judged::Part(start + 4));
    };
    let length = u32::from_be_bytes(length) as usize;
    let least = if start == 0 { 8 } else { 4 };
    if length < least {
        return fault(format!(
            "the {name} message is {length} bytes long by its own account, which is too short"
        ));
    }
    if length > most {
        return fault(format!(
            "the {name} message is {length} bytes long by its own account, and at most {most} are taken"
        ));
    }
    let whole = start + length;
    let Some(body) = received.get(start + 4..whole) else {
        return Ok(Judged::Part(whole));
    };
    let fields = Fields {
        message: name,
        left: body,
    };
    match received.first() {
        _ if start == 0 => startup(fields)?,
        Some(kind) => typed(*kind, stage, fields)?,
        None => {}
    }
    Ok(Judged::Whole(whole))
}

struct Message {
    name: &'static str,
    /// Most bytes, those of the length included.
    most: usize,
}

impl Message {
    /// The message of type `kind`, if it has a place at this `stage`.
    fn of(kind: u8, stage: Stage) -> Result<Self, Fault> {
        let Stage::Ready(large) = stage else {
            return match kind {
                b'p' => Ok(Self {
                    name: "password",
                    most: SMALL,
                }),
                b'X' => Ok(Self {
                    name: "Terminate",
                    most: SMALL,
                }),
                _ => fault(format!(
                    "a message of type {} before the password was proven",
                    shown(kind)
                )),
            };
        };
        let (name, most) = match kind {
            b'Q' => ("Query", large),
            b'P' => ("Parse", large),
            b'B' => ("Bind", large),
            b'd' => ("CopyData", large),
            b'E' => ("Execute", SMALL),
            b'D' => ("Describe", SMALL),
            b'C' => ("Close", SMALL),
            b'H' => ("Flush", SMALL),
            b'S' => ("Sync", SMALL),
            b'X' => ("Terminate", SMALL),
            b'c' => ("CopyDone", SMALL),
            b'f' => ("CopyFail", SMALL),
            b'F' => return fault("function calls are not served; ask with a query"),
            b'p' => return fault("a password after the login"),
            _ => return fault(format!("there is no message of type {}", shown(kind))),
        };
        Ok(Self { name, most })
    }
}

fn shown(kind: u8) -> String {
    if kind.is_ascii_graphic() {
        format!("`{}`", char::from(kind))
    } else {
        format!("0x{kind:02x}")
    }
}

/// What has no type: the first message of a connection, or a wish for encryption before it.
fn startup(mut fields: Fields<'_>) -> Result<(), Fault> {
    match fields.u32()? {
        SSL_REQUEST | GSS_REQUEST => fields.end(),
        CANCEL_REQUEST => {
            fields.u32()?;
            match fields.left.len() {
                4..=256 => Ok(()),
                key => fault(format!(
                    "a cancel request has a key of 4 to 256 bytes, not of {key}"
                )),
            }
        }
        version if version >> 16 == 3 => {
            while !fields.string("names of parameters")?.is_empty() {
                fields.string("values of parameters")?;
            }
            fields.end()
        }
        version => fault(format!(
            "version {}.{} of the protocol is not spoken here, but 3.0",
            version >> 16,
            version & 0xffff
        )),
    }
}

fn typed(kind: u8, stage: Stage, mut fields: Fields<'_>) -> Result<(), Fault> {
    match kind {
        b'p' if stage == Stage::Mechanism => {
            fields.string("mechanism")?;
            fields.value("first response")?;
        }
        // Data, to whose form they that read them look.
        b'p' | b'd' => return Ok(()),
        b'Q' => {
            fields.string("statement")?;
        }
        b'P' => {
            fields.string("name")?;
            fields.string("statement")?;
            let types = fields.u16("number of types")?;
            fields.take(usize::from(types) * 4, "types of parameters")?;
        }
        b'B' => bind(&mut fields)?,
        b'E' => {
            fields.string("name of a portal")?;
            fields.take(4, "number of rows")?;
        }
        b'D' | b'C' => {
            let kind = fields.take(1, "kind of thing")?;
            if !matches!(kind, b"S" | b"P") {
                return fault(format!(
                    "a {} message is of a statement or of a portal",
                    fields.message
                ));
            }
            fields.string("name")?;
        }
        b'f' => {
            fields.string("reason")?;
        }
        _ => {}
    }
    fields.end()
}

fn bind(fields: &mut Fields<'_>) -> Result<(), Fault> {
    fields.string("name of a portal")?;
    fields.string("name of a statement")?;
    let formats = fields.formats("formats of parameters")?;
    let values = usize::from(fields.u16("number of parameters")?);
    if formats > 1 && formats != values {
        return fault(format!(
            "a Bind message has {formats} formats for {values} parameters"
        ));
    }
    for _ in 0..values {
        fields.value("values of parameters")?;
    }
    fields.formats("formats of columns").map(drop)
}

/// What is left of the body of a message.
struct Fields<'b> {
    message: &'static str,
    left: &'b [u8],
}

impl<'b> Fields<'b> {
    fn cut<T>(&self, field: &str) -> Result<T, Fault> {
        fault(format!("the {} message ends within its {field}", self.message))
    }

    fn take(&mut self, bytes: usize, field: &str) -> Result<&'b [u8], Fault> {
        let Some((taken, left)) = self.left.split_at_checked(bytes) else {
            return self.cut(field);
        };
        self.left = left;
        Ok(taken)
    }

    /// A text without its end, which is a zero.
    fn string(&mut self, field: &str) -> Result<&'b [u8], Fault> {
        let Some(length) = self.left.iter().position(|byte| *byte == 0) else {
            return self.cut(field);
        };
        let text = self.take(length, field)?;
        self.take(1, field)?;
        Ok(text)
    }

    fn u16(&mut self, field: &str) -> Result<u16, Fault> {
        match self.take(2, field)? {
            [high, low] => Ok(u16::from_be_bytes([*high, *low])),
            _ => self.cut(field),
        }
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        match self.take(4, "numbers")?.try_into() {
            Ok(bytes) => Ok(u32::from_be_bytes(bytes)),
            Err(_) => self.cut("numbers"),
        }
    }

    /// A length and as many bytes; -1 is no value.
    fn value(&mut self, field: &str) -> Result<(), Fault> {
        let length = self.u32()?;
        if length == u32::MAX {
            return Ok(());
        }
        self.take(length as usize, field).map(drop)
    }

    /// How many formats there are, each of which is text or binary.
    fn formats(&mut self, field: &str) -> Result<usize, Fault> {
        let count = usize::from(self.u16(field)?);
        let formats = self.take(count * 2, field)?;
        match formats.chunks(2).find(|format| !matches!(format, [0, 0 | 1])) {
            None => Ok(count),
            Some(_) => fault(format!(
                "the {field} of a {} message are 0 or 1 each",
                self.message
            )),
        }
    }

    fn end(&self) -> Result<(), Fault> {
        match self.left.len() {
            0 => Ok(()),
            more => fault(format!(
                "the {} message has {more} bytes more than its fields",
                self.message
            )),
        }
    }
}

#[cfg(test)]
#[path = "frames/tests.rs"]
mod tests;
