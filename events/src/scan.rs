//! Scan: one pass over a body of the usual form, which picks the fields that views want.
//!
//! ```text
//!   body --> UTF-8, no control characters --> envelope { payload { ... } } --> Glimpse
//!                \__________________________________\_______________________ None: any surprise
//! ```
//!
//! In:    the bytes of a body.
//! Out:   the [`Glimpse`] that [`crate::decode`] would give, or `None`, which says nothing: decode it.
//! State: none.
//!
//! Whatever is scanned, `decode` reads too, and finds the same. To be sure of that the scanner takes much less:
//! one object with at most one level below it, no arrays, no escapes in keys and in what is wanted
//! (but for the reason), numbers of moderate length, spaces as the only white space. What it skips it checks too: escapes of
//! strings, the grammar of numbers, and the types of fields that `decode` would refuse.
//!
//! A line of a recording of `{"topic", "key", "value"}` has no type, so it is never taken for an event.

use crate::{EventType, Glimpse, Micros, payload, quotes::Quotes};
use std::borrow::Cow;

/// Reads a body that has the form that Hermes gives it; see the module.
pub fn scan(body: &[u8]) -> Option<Glimpse<'_>> {
    let text = simdutf8::basic::from_utf8(trimmed(body)).ok()?;
    let mut quotes = Quotes::new();
    quotes.find(text.as_bytes())?;
    let mut found = Found::new();
    let mut cursor = Cursor {
        text,
        at: 0,
        closing: quotes.closing(),
        escapes: quotes.escapes,
    };
    envelope(&mut cursor, &mut found)?;
    (cursor.at == text.len()).then_some(())?;
    found.glimpse()
}

/// Without the white space of JSON at either end, and without a byte order mark.
fn trimmed(mut body: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] | [0xef, 0xbb, 0xbf, rest @ ..] = body {
        body = rest;
    }
    while let [rest @ .., b' ' | b'\t' | b'\n' | b'\r'] = body {
        body = rest;
    }
    body
}

/// The fields found so far.
struct Found<'a> {
    event_type: Option<&'a str>,
    created_at: Option<&'a str>,
    checksum_adler: Option<&'a str>,
    glimpse: Glimpse<'a>,
}

impl<'a> Found<'a> {
    fn new() -> Self {
        Self {
            event_type: None,
            created_at: None,
            checksum_adler: None,
            glimpse: Glimpse::nothing(),
        }
    }

    fn glimpse(mut self) -> Option<Glimpse<'a>> {
        self.glimpse.event_type = EventType::parse(Cow::Borrowed(self.event_type?));
        self.glimpse.created_at = Micros::parse(self.created_at?)?;
        self.glimpse.adler32 = self.checksum_adler.and_then(payload::adler32);
        Some(self.glimpse)
    }

    /// Where the text of an envelope's field goes; `None` where nobody wants it.
    fn of_envelope(&mut self, key: &[u8]) -> Option<&mut Option<&'a str>> {
        Some(match key {
            b"event_type" => &mut self.event_type,
            b"created_at" => &mut self.created_at,
            b"id" => &mut self.glimpse.id,
            _ => return None,
        })
    }

    /// Where the text of a payload's field goes; `None` where nobody wants it.
    fn of_payload(&mut self, key: &[u8]) -> Option<&mut Option<&'a str>> {
        Some(match key {
            b"scope" => &mut self.glimpse.scope,
            b"name" => &mut self.glimpse.name,
            b"rse" => &mut self.glimpse.rse,
            b"rse_id" => &mut self.glimpse.rse_id,
            b"dst-rse" => &mut self.glimpse.dst_rse,
            b"src-rse" => &mut self.glimpse.src_rse,
            b"checksum-adler" => &mut self.checksum_adler,
            b"request-id" => &mut self.glimpse.request_id,
            b"rule-id" | b"rule_id" => &mut self.glimpse.rule_id,
            b"dataset" | b"dataset_name" => &mut self.glimpse.dataset,
            b"datasetScope" | b"dataset_scope" => &mut self.glimpse.dataset_scope,
            b"created_at" => &mut self.glimpse.requested_at,
            b"submitted_at" => &mut self.glimpse.submitted_at,
            b"started_at" => &mut self.glimpse.started_at,
            b"transferred_at" => &mut self.glimpse.transferred_at,
            _ => return None,
        })
    }
}

fn envelope<'a>(cursor: &mut Cursor<'a, '_>, found: &mut Found<'a>) -> Option<()> {
    cursor.object(|cursor, key| match cursor.value()? {
        Value::Text(text) => match found.of_envelope(key) {
            Some(slot) => keep(slot, text),
            // Decode knows two words that stand for a payload; it may go on from here.
            None => (key != b"payload").then_some(()),
        },
        Value::Object => {
            (key == b"payload").then_some(())?;
            payload_fields(cursor, found)
        }
        Value::Null => Some(()),
        Value::Bool | Value::Number(_) => {
            let known = matches!(key, b"event_type" | b"created_at" | b"id" | b"payload");
            (!known).then_some(())
        }
    })
}

fn payload_fields<'a>(cursor: &mut Cursor<'a, '_>, found: &mut Found<'a>) -> Option<()> {
    cursor.object(|cursor, key| match cursor.value()? {
        Value::Text(text) => match key {
            b"reason" => {
                let reason = text.unescaped()?;
                if reason != "None" {
                    found.glimpse.reason = Some(reason);
                }
                Some(())
            }
            b"bytes" | b"file-size" | b"length" | b"duration" | b"progress" => None,
            _ => match found.of_payload(key) {
                Some(slot) => keep(slot, text),
                None => Some(()),
            },
        },
        Value::Object => None,
        Value::Null => Some(()),
        Value::Bool => (!payload::is_field(key)).then_some(()),
        Value::Number(whole) => {
            match key {
                b"bytes" | b"file-size" => found.glimpse.bytes = Some(whole?),
                b"progress" => found.glimpse.progress = Some(whole?.try_into().ok()?),
                b"length" => drop(whole?),
                b"duration" => {}
                _ if payload::is_field(key) => return None,
                _ => {}
            }
            Some(())
        }
    })
}

/// The last of repeated keys stays, unless it is a word for null.
fn keep<'a>(slot: &mut Option<&'a str>, text: Text<'a>) -> Option<()> {
    if text.escaped {
        return None;
    }
    if text.raw != "None" {
        *slot = Some(text.raw);
    }
    Some(())
}

/// A JSON value. Of a number its value, if it has no sign, fraction or exponent and at most 18 digits; of an
/// object only that it begins here: whoever gets it reads it.
enum Value<'a> {
    Null,
    Bool,
    Number(Option<u64>),
    Text(Text<'a>),
    Object,
}

/// The inside of a string.
struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    fn unescaped(self) -> Option<Cow<'a, str>> {
        if !self.escaped {
            return Some(Cow::Borrowed(self.raw));
        }
        let quoted = format!("\"{}\"", self.raw);
        serde_json::from_str(&quoted).ok().map(Cow::Owned)
    }
}

/// A place in the text, with the ends of the strings that are not behind it.
struct Cursor<'a, 'q> {
    text: &'a str,
    at: usize,
    closing: &'q [u16],
    escapes: bool,
}

impl<'a> Cursor<'a, '_> {
    /// The next byte that is no space, which stays.
    #[inline(always)]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.text.as_bytes().get(self.at)? {
                b' ' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// Passes `wanted`, the next byte that is no space.
    #[inline(always)]
    fn pass(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then_some(())?;
        self.at += 1;
        Some(())
    }

    /// Reads the fields of an object up to its end, each value by `field`.
    #[inline(always)]
    fn object(&mut self, mut field: impl FnMut(&mut Self, &[u8]) -> Option<()>) -> Option<()> {
        self.pass(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            let key = self.string()?;
            if key.escaped {
                return None;
            }
            self.pass(b':')?;
            field(self, key.raw.as_bytes())?;
            let end = self.peek()?;
            self.at += 1;
            match end {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    #[inline(always)]
    fn value(&mut self) -> Option<Value<'a>> {
        match self.peek()? {
            b'"' => self.string().map(Value::Text),
            b'n' => self.word("null").map(|()| Value::Null),
            b't' => self.word("true").map(|()| Value::Bool),
            b'f' => self.word("false").map(|()| Value::Bool),
            b'-' | b'0'..=b'9' => self.number().map(Value::Number),
            b'{' => Some(Value::Object),
            _ => None,
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let rest = self.text.as_bytes().get(self.at..)?;
        rest.starts_with(word.as_bytes()).then_some(())?;
        self.at += word.len();
        Some(())
    }

    /// A string, which begins at the next byte that is no space.
    #[inline(always)]
    fn string(&mut self) -> Option<Text<'a>> {
        (self.peek()? == b'"').then_some(())?;
        // All strings before it were taken, so this one is the next that ends.
        let [closing, rest @ ..] = self.closing else {
            return None;
        };
        let closing = usize::from(*closing);
        let raw = self.text.get(self.at + 1..closing)?;
        self.at = closing + 1;
        self.closing = rest;
        let escaped = self.escapes && escapes_of(raw)?;
        Some(Text { raw, escaped })
    }

    /// A number as JSON has it, too short to be infinite.
    #[inline(always)]
    fn number(&mut self) -> Option<Option<u64>> {
        let bytes = self.text.as_bytes();
        let (mut end, mut whole) = (self.at, 0u64);
        while let Some(digit @ b'0'..=b'9') = bytes.get(end) {
            whole = whole.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            end += 1;
        }
        let digits = end - self.at;
        let plain = matches!(bytes.get(end), Some(b',' | b'}' | b' '));
        let sound = (1..=18).contains(&digits) && (digits == 1 || bytes.get(self.at) != Some(&b'0'));
        if plain && sound {
            self.at = end;
            return Some(Some(whole));
        }
        self.other_number().map(|()| None)
    }

    #[cold]
    fn other_number(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes().get(self.at..)?;
        let digits_from = |at: usize| {
            let rest = bytes.get(at..).unwrap_or_default();
            at + rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
        };
        let first = usize::from(bytes.first() == Some(&b'-'));
        let mut end = digits_from(first);
        let leading_zero = bytes.get(first) == Some(&b'0') && end > first + 1;
        if end == first || leading_zero {
            return None;
        }
        if bytes.get(end) == Some(&b'.') {
            let fraction = end + 1;
            end = digits_from(fraction);
            (end > fraction).then_some(())?;
        }
        if let Some(b'e' | b'E') = bytes.get(end) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = end + 1 + sign;
            end = digits_from(exponent);
            (1..=2).contains(&(end - exponent)).then_some(())?;
        }
        (end <= 32).then_some(())?;
        self.at += end;
        Some(())
    }
}

/// Whether there are escapes in a string; `None` if one of them is none of JSON.
#[cold]
fn escapes_of(raw: &str) -> Option<bool> {
    let mut rest = raw.as_bytes();
    let mut any = false;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        any = true;
        rest = match rest.get(at + 1..)? {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => rest,
            [b'u', digits @ ..] => {
                let (character, rest) = digits.split_at_checked(4)?;
                is_character(character).then_some(rest)?
            }
            _ => return None,
        };
    }
    Some(any)
}

/// Four hexadecimal digits that are no half of a pair.
fn is_character(digits: &[u8]) -> bool {
    digits.iter().all(u8::is_ascii_hexdigit)
        && !matches!(digits, [b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F', ..])
}
