#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn bytes(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    frame.write(&mut out);
    out
}

/// Longest body of these tests.
const MAX_BODY: usize = 1000;

fn all(reader: &mut Reader, buffer: &mut BytesMut) -> Result<Vec<Heard>, FrameError> {
    let mut heard = Vec::new();
    while let Some(one) = reader.take(buffer)? {
        heard.push(one);
    }
    Ok(heard)
}

fn take(buffer: &mut BytesMut) -> Result<Option<Heard>, FrameError> {
    Reader::new(MAX_BODY).take(buffer)
}

fn word() -> impl Strategy<Value = String> {
    "[a-z:\\\\\n\r ü-]{0,12}"
}

fn frame() -> impl Strategy<Value = Frame> {
    let headers = prop::collection::vec((word(), word()), 0..5);
    let bodies = prop_oneof![
        "[^\0]{0,60}".prop_map(|text| (Bytes::from(text), false)),
        prop::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| (Bytes::from(bytes), true)),
    ];
    (headers, bodies).prop_map(|(mut headers, (body, long))| {
        headers.retain(|(name, _)| name != "content-length");
        if long {
            headers.push(("content-length".into(), body.len().to_string()));
        }
        Frame {
            command: Command::Message,
            headers,
            body,
        }
    })
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in_wherever_the_bytes_are_cut(
        frames in prop::collection::vec(frame(), 1..5),
        cuts in prop::collection::vec(1usize..40, 1..20),
        beats in 0usize..3,
    ) {
        let mut wire = Vec::new();
        for frame in &frames {
            wire.extend(std::iter::repeat_n(b'\n', beats));
            frame.write(&mut wire);
        }
        let (mut reader, mut buffer, mut heard) = (Reader::new(MAX_BODY), BytesMut::new(), Vec::new());
        let mut cuts = cuts.iter().cycle();
        while !wire.is_empty() {
            let cut = (*cuts.next().unwrap()).min(wire.len());
            buffer.extend(wire.drain(..cut));
            heard.extend(all(&mut reader, &mut buffer).unwrap());
        }
        let heard: Vec<Frame> = heard
            .into_iter()
            .filter_map(|heard| match heard {
                Heard::Frame(frame) => Some(frame),
                Heard::HeartBeat => None,
            })
            .collect();
        prop_assert_eq!(heard, frames);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn whatever_the_bytes_there_is_an_answer(wire in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = all(&mut Reader::new(MAX_BODY), &mut BytesMut::from(&wire[..]));
        let mut begun = BytesMut::from(&b"MESSAGE\n"[..]);
        begun.extend(&wire);
        let _ = all(&mut Reader::new(MAX_BODY), &mut begun);
    }

    #[test]
    fn half_a_frame_waits_for_its_end(frame in frame(), part in 0.0..1.0f64) {
        let wire = bytes(&frame);
        let part = (wire.len() as f64 * part) as usize;
        prop_assert_eq!(take(&mut BytesMut::from(&wire[..part])), Ok(None));
    }
}

#[test]
fn an_answer_of_a_web_server_is_told_for_what_it_is() {
    let error = take(&mut BytesMut::from("HTTP/1.1 400 Bad Request\r\n")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`HTTP/1.1 400 Bad Request` is no command"),
        "{error}"
    );
    // A TLS alert has no line end, and is recognised all the same.
    let error = take(&mut BytesMut::from(&[0x15, 0x03, 0x03, 0x00, 0x02][..])).unwrap_err();
    assert!(error.to_string().contains("with or without TLS"), "{error}");
}

#[test]
fn a_wrong_length_is_named() {
    let mut wire = BytesMut::from("MESSAGE\ncontent-length:2\n\nabc\0");
    let error = take(&mut wire).unwrap_err();
    assert_eq!(error, FrameError::Length("2".into()));
}

#[test]
fn a_head_without_end_is_not_read_for_ever() {
    let mut wire = BytesMut::from("MESSAGE\n");
    wire.extend(std::iter::repeat_n(b"name:value\n", 10_000).flatten());
    assert_eq!(take(&mut wire), Err(FrameError::LongHead));
    // Neither as one line that comes in small pieces.
    let (mut reader, mut wire) = (Reader::new(MAX_BODY), BytesMut::from("MESSAGE\nname:"));
    let ended = (0..10_000).find_map(|_| {
        wire.extend(b"a long value");
        reader.take(&mut wire).err()
    });
    assert_eq!(ended, Some(FrameError::LongHead));
    assert!(wire.len() < MAX_HEAD + 100, "{}", wire.len());
}

#[test]
fn a_body_that_is_too_long_is_named_before_it_is_there() {
    let mut wire = BytesMut::from("MESSAGE\nmessage-id:ID:7\ncontent-length:1073741824\n\n");
    let error = take(&mut wire).unwrap_err().to_string();
    assert_eq!(
        error,
        "the body of MESSAGE `ID:7` has 1073741824 bytes or more, and `max_message_bytes` is 1000"
    );
    let (mut reader, mut wire) = (Reader::new(MAX_BODY), BytesMut::from("ERROR\n\n"));
    let ended = (0..1000).find_map(|_| {
        wire.extend(b"0123456789");
        reader.take(&mut wire).err()
    });
    let error = ended.unwrap().to_string();
    assert!(error.starts_with("the body of ERROR has 1010 bytes"), "{error}");
    for length in ["-1", "1e3", "18446744073709551616", "", "0x10"] {
        let mut wire = BytesMut::from(format!("MESSAGE\ncontent-length:{length}\n\n").as_str());
        let error = take(&mut wire).unwrap_err();
        assert_eq!(error, FrameError::Length(length.into()));
    }
}

#[test]
fn escapes_are_those_of_the_standard() {
    let frame = Frame::new(Command::Subscribe).with("selector", "a:b\\c\nd");
    assert_eq!(bytes(&frame), b"SUBSCRIBE\nselector:a\\cb\\\\c\\nd\n\n\0");
    // Not so in the first frame of a connection, which older versions must be able to read.
    let frame = Frame::new(Command::Connect).with("passcode", "a:b\\c");
    assert_eq!(bytes(&frame), b"CONNECT\npasscode:a:b\\c\n\n\0");
    let mut wire = BytesMut::from("MESSAGE\na:\\t\n\n\0");
    assert_eq!(take(&mut wire), Err(FrameError::Header("a:\\\\t".into())));
}
