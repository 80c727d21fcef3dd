//! Brokers that send what no broker should: it costs what the settings say, the sentence says what is wrong, and other brokers
//! are read on.

use super::{Extent, Offsets, PATIENCE, Source, ack, more, read, settings, thread, wait_until};
use dbb_sources::stomp::{self, StompSettings, StompStatistics};
use dbb_test_services::{ActiveMq, Harm, StompStub};
use std::time::Duration;

/// What the system itself holds of a connection on its way, in bytes: its buffers on both sides, with room to spare.
const ON_THE_WAY: u64 = 24 << 20;

/// Longest message and most in flight of these tests, in bytes.
const LONGEST: u32 = 1 << 20;
const IN_FLIGHT: u64 = 4 << 20;

fn bounded(ports: &[u16]) -> StompSettings {
    let mut settings = settings(ports, "/topic/hostile");
    settings.max_message_bytes = LONGEST;
    settings.max_in_flight_bytes = IN_FLIGHT;
    settings
}

fn start(settings: &StompSettings) -> (Box<dyn Source>, StompStatistics) {
    let (mut sources, statistics) =
        stomp::open(settings, 0..1, 1, Extent::default(), &Offsets::new()).unwrap();
    (sources.remove(0), statistics)
}

/// Waits until the one broker is in trouble for this reason.
fn trouble(statistics: &StompStatistics, reason: &str) {
    wait_until(reason, PATIENCE, || {
        let trouble = statistics.snapshot()[0].trouble.clone();
        Ok(trouble.is_some_and(|trouble| trouble.contains(reason)))
    })
    .unwrap();
}

#[test]
fn a_frame_that_is_too_long_is_named_and_not_read_again_and_again() {
    for (harm, reason) in [
        (
            Harm::DeclaredGigabyte,
            "the body of MESSAGE `ID:1` has 1073741824 bytes or more, and `max_message_bytes` is 1048576",
        ),
        (Harm::EndlessBody, "and `max_message_bytes` is 1048576"),
        (
            Harm::EndlessHead,
            "the head of a frame is longer than 65536 bytes",
        ),
        (Harm::LongNames, "whose `message-id` has 6000"),
    ] {
        let stub = StompStub::start(harm).unwrap();
        let (mut source, statistics) = start(&bounded(&[stub.port()]));
        trouble(&statistics, reason);
        thread::sleep(Duration::from_secs(2));
        // 0, 0.2, 0.6, 1.4, 3 s: each pause is twice the last.
        let connections = stub.connections();
        assert!((2..=7).contains(&connections), "{harm:?}: {connections}");
        let sent = stub.sent() / connections;
        assert!(sent <= 2 * u64::from(LONGEST) + ON_THE_WAY, "{harm:?}: {sent}");
        assert_eq!(more(&mut *source), []);
    }
}

#[test]
fn messages_without_end_wait_at_the_broker_until_there_is_room() {
    let stub = StompStub::start(Harm::EndlessMessages).unwrap();
    let (mut source, statistics) = start(&bounded(&[stub.port()]));
    // As many as there is room for, and nothing is handled.
    let whole = usize::try_from(IN_FLIGHT / (64 * 1024)).unwrap();
    let records = read(&mut *source, whole - 1);
    let rest = more(&mut *source);
    assert!(rest.len() <= 2, "{} more", rest.len());
    let held = stub.sent();
    assert!(held <= IN_FLIGHT + ON_THE_WAY, "{held}");
    thread::sleep(Duration::from_secs(1));
    assert!(stub.sent() <= held + ON_THE_WAY, "{} after {held}", stub.sent());
    ack(&mut *source, records.last().unwrap());
    let next = read(&mut *source, whole - 4);
    assert!(next[0].place.offset > records.last().unwrap().place.offset);
    assert_eq!(statistics.snapshot()[0].connections, 1);
}

#[test]
fn no_more_messages_are_taken_than_twice_what_was_asked_for() {
    let stub = StompStub::start(Harm::PaddedMessages).unwrap();
    let mut settings = bounded(&[stub.port()]);
    settings.prefetch = 10;
    let (mut source, statistics) = start(&settings);
    let records = read(&mut *source, 20);
    assert_eq!(more(&mut *source), []);
    ack(&mut *source, &records[4]);
    assert_eq!(read(&mut *source, 5).len(), 5);
    assert_eq!(more(&mut *source), []);
    assert_eq!(statistics.snapshot()[0].connections, 1);
}

#[test]
fn heart_beats_without_end_harm_nobody() {
    let stub = StompStub::start(Harm::EndlessBeats).unwrap();
    let well = ActiveMq::shared().unwrap();
    let mut settings = bounded(&[stub.port(), well.port()]);
    settings.destination = "/topic/beats".into();
    let (mut source, statistics) = start(&settings);
    wait_until("both are subscribed", PATIENCE, || {
        Ok(statistics.snapshot().iter().all(|broker| broker.connected))
    })
    .unwrap();
    super::send(well.port(), "/topic/beats", 0..10);
    let records = read(&mut *source, 10);
    assert_eq!(super::bodies(&records), super::numbers(0..10));
    ack(&mut *source, &records[9]);
    // One does not answer the good-bye; the other does.
    assert!(source.flush().is_err());
    let mut settings = self::settings(&[well.port()], "/topic/beats");
    settings.client_id.clone_from(&bounded(&[]).client_id);
    assert_eq!(super::session(&settings, 0, 0), super::numbers(0..0));
}

#[test]
fn a_silent_broker_without_heart_beats_is_asked_and_then_given_up() {
    let stub = StompStub::start(Harm::Silence).unwrap();
    let mut settings = bounded(&[stub.port()]);
    settings.silence_seconds = 1;
    let (_source, statistics) = start(&settings);
    trouble(&statistics, "nothing was heard of it for 2");
    let heard = stub.heard();
    assert!(heard.contains("receipt:alive"), "{heard}");
}

#[test]
fn a_broker_that_answers_when_it_is_asked_is_kept() {
    let broker = ActiveMq::shared().unwrap();
    let mut settings = settings(&[broker.port()], "/topic/asked");
    settings.heart_beat_ms = 0;
    settings.silence_seconds = 1;
    let (mut source, statistics) = start(&settings);
    thread::sleep(Duration::from_secs(5));
    let status = &statistics.snapshot()[0];
    assert_eq!((status.connections, status.connected), (1, true), "{status:?}");
    super::send(broker.port(), "/topic/asked", 0..3);
    assert_eq!(super::bodies(&read(&mut *source, 3)), super::numbers(0..3));
    source.flush().unwrap();
}
