//! The STOMP source against real ActiveMQ brokers, and against some that misbehave.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "stomp/hostile.rs"]
mod hostile;

use dbb_events::Received;
use dbb_sources::{
    Extent, Offsets, Partition, Polled, Source, SourceError,
    stomp::{self, Ack, StompSettings},
};
use dbb_test_services::{ActiveMq, Stomp, scratch, wait_until};
use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn settings(ports: &[u16], destination: &str) -> StompSettings {
    let brokers: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let brokers: Vec<&str> = brokers.iter().map(String::as_str).collect();
    let mut settings = StompSettings::of(&brokers, destination);
    settings.client_id = destination
        .trim_start_matches("/topic/")
        .trim_start_matches("/queue/")
        .into();
    settings
}

fn open(settings: &StompSettings) -> Box<dyn Source> {
    let (sources, _) = stomp::open(settings, 0..1, 1, Extent::default(), &Offsets::new()).unwrap();
    sources.into_iter().next().unwrap()
}

/// Polls until there are `count` records.
fn read(source: &mut dyn Source, count: usize) -> Vec<Received> {
    let (mut records, start) = (Vec::new(), Instant::now());
    while records.len() < count {
        source.poll(&mut records, 1000).unwrap();
        assert!(
            start.elapsed() < PATIENCE,
            "{} of {count} records came",
            records.len()
        );
        thread::sleep(Duration::from_millis(5));
    }
    records
}

/// Polls for a while; what comes.
fn more(source: &mut dyn Source) -> Vec<Received> {
    let (mut records, start) = (Vec::new(), Instant::now());
    while start.elapsed() < Duration::from_millis(1500) {
        source.poll(&mut records, 1000).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    records
}

fn bodies(records: &[Received]) -> Vec<String> {
    let body = |record: &Received| String::from_utf8(record.body.to_vec()).unwrap();
    records.iter().map(body).collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("{{\"n\":{n}}}")).collect()
}

/// Sends numbered messages as Hermes does, and waits until the broker has them.
fn send(port: u16, destination: &str, range: std::ops::Range<usize>) {
    let mut client = Stomp::connect(port, &[]).unwrap();
    for body in numbers(range) {
        client
            .post(destination, &[("event_type", "transfer-done")], body.as_bytes())
            .unwrap();
    }
    client.disconnect().unwrap();
}

/// Everything up to and with `record` is handled.
fn ack(source: &mut dyn Source, record: &Received) {
    let partition = Partition {
        stream: record.place.stream.clone(),
        partition: record.place.partition,
    };
    source
        .ack(&Offsets::from([(partition, record.place.offset + 1)]))
        .unwrap();
}

/// What a session that leaves in good order gets from a destination that holds `count` messages.
fn session(settings: &StompSettings, count: usize, acked: usize) -> Vec<String> {
    let mut source = open(settings);
    let records = read(&mut *source, count);
    assert_eq!(more(&mut *source), [], "more came than is there");
    if let Some(last) = acked.checked_sub(1) {
        ack(&mut *source, &records[last]);
    }
    source.flush().unwrap();
    bodies(&records)
}

#[test]
fn what_was_acked_never_comes_again_and_all_else_does() {
    let port = ActiveMq::shared().unwrap().port();
    for (mode, destination) in [
        (Ack::Cumulative, "/topic/cumulative"),
        (Ack::Individual, "/topic/individual"),
        (Ack::Cumulative, "/queue/cumulative"),
    ] {
        let mut settings = settings(&[port], destination);
        settings.ack = mode;
        // The first session makes the subscription.
        assert_eq!(session(&settings, 0, 0), numbers(0..0));
        let mut monitor = Stomp::connect(port, &[("client-id", &format!("monitor{destination}"))]).unwrap();
        if destination.starts_with("/topic") {
            monitor
                .subscribe(destination, &[("activemq.subscriptionName", "monitor")])
                .unwrap();
        }
        send(port, destination, 0..50);
        assert_eq!(session(&settings, 50, 20), numbers(0..50), "{destination}");
        assert_eq!(session(&settings, 30, 30), numbers(20..50), "{destination}");
        assert_eq!(session(&settings, 0, 0), numbers(0..0), "{destination}");
        if destination.starts_with("/topic") {
            for body in numbers(0..50) {
                let copy = monitor.receive(PATIENCE).unwrap().expect("its own copy");
                assert_eq!(copy.body, body.as_bytes());
            }
        }
    }
}

#[test]
fn no_more_than_the_prefetch_is_on_its_way_without_an_ack() {
    let port = ActiveMq::shared().unwrap().port();
    let mut settings = settings(&[port], "/topic/prefetch");
    settings.prefetch = 10;
    session(&settings, 0, 0);
    send(port, "/topic/prefetch", 0..25);
    let mut source = open(&settings);
    let first = read(&mut *source, 10);
    assert_eq!(more(&mut *source), []);
    ack(&mut *source, &first[3]);
    let second = read(&mut *source, 4);
    assert_eq!(more(&mut *source), []);
    ack(&mut *source, second.last().unwrap());
    let third = read(&mut *source, 10);
    ack(&mut *source, third.last().unwrap());
    let fourth = read(&mut *source, 1);
    let all = [first, second, third, fourth].concat();
    assert_eq!(bodies(&all), numbers(0..25));
    assert!(
        all.windows(2)
            .all(|pair| pair[0].place.offset < pair[1].place.offset)
    );
    let at = all[0].appended_at.expect("the broker's time").0;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!((now.as_micros() as i64 - at).abs() < 3_600_000_000, "{at}");
}

#[test]
fn a_killed_broker_is_read_on_when_it_is_back_and_the_other_meanwhile() {
    let (mut first, second) = (ActiveMq::start().unwrap(), ActiveMq::shared().unwrap());
    let destination = "/topic/two.brokers";
    let settings = settings(&[first.port(), second.port()], destination);
    let (sources, statistics) = stomp::open(&settings, 0..1, 1, Extent::default(), &Offsets::new()).unwrap();
    let mut source = sources.into_iter().next().unwrap();
    wait_until("both are subscribed", PATIENCE, || {
        Ok(statistics.snapshot().iter().all(|broker| broker.connected))
    })
    .unwrap();
    send(first.port(), destination, 0..10);
    let before = read(&mut *source, 10);
    ack(&mut *source, &before[4]);
    first.kill().unwrap();
    wait_until("the loss is noticed", PATIENCE, || {
        Ok(statistics
            .snapshot()
            .iter()
            .any(|broker| broker.trouble.is_some()))
    })
    .unwrap();
    send(second.port(), destination, 10..20);
    let other = read(&mut *source, 10);
    assert_eq!(bodies(&other), numbers(10..20));
    // Handled while the broker is away: the acknowledgement has nowhere to go.
    ack(&mut *source, &before[7]);
    first.start_again().unwrap();
    wait_until("it is subscribed to again", PATIENCE, || {
        Ok(statistics.snapshot().iter().all(|broker| broker.connected))
    })
    .unwrap();
    send(first.port(), destination, 20..25);
    // What was emitted before is not emitted again.
    let after = read(&mut *source, 5);
    assert_eq!(bodies(&after), numbers(20..25));
    ack(&mut *source, &after[1]);
    source.flush().unwrap();
    // The next session gets exactly what was not handled.
    let settings = self::settings(&[first.port()], destination);
    assert_eq!(session(&settings, 3, 3), numbers(22..25));
}

#[test]
fn a_broker_that_hangs_is_given_up_for_its_silence() {
    let mut broker = ActiveMq::start().unwrap();
    let mut settings = settings(&[broker.port()], "/topic/silence");
    settings.heart_beat_ms = 500;
    let (sources, statistics) = stomp::open(&settings, 0..1, 1, Extent::default(), &Offsets::new()).unwrap();
    // Both sides are heard by their heart-beats alone.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(statistics.snapshot()[0].connections, 1);
    broker.signal("STOP").unwrap();
    wait_until("it is missed", PATIENCE, || {
        let trouble = statistics.snapshot()[0].trouble.clone();
        Ok(trouble.is_some_and(|trouble| trouble.contains("nothing was heard of it")))
    })
    .unwrap();
    broker.signal("CONT").unwrap();
    wait_until("it is back", PATIENCE, || Ok(statistics.snapshot()[0].connected)).unwrap();
    drop(sources);
}

#[test]
fn a_login_over_tls_and_what_is_refused_are_told_apart() {
    let broker = ActiveMq::secured().unwrap();
    let folder = scratch("stomp").unwrap();
    let password = |text: &str| {
        let file = folder.path().join(text.replace(' ', "-"));
        std::fs::write(&file, format!("{text}\n")).unwrap();
        Some(file)
    };
    let mut good = settings(&[], "/topic/secured");
    good.brokers = vec![format!("localhost:{}", broker.tls_port())];
    good.security.tls = true;
    good.security.ca_file = Some(broker.certificates().unwrap().authority.clone());
    good.security.username = Some(ActiveMq::USER.into());
    good.security.password_file = password(ActiveMq::PASSWORD);
    session(&good, 0, 0);
    let login = [("login", ActiveMq::USER), ("passcode", ActiveMq::PASSWORD)];
    let mut client = Stomp::connect(broker.port(), &login).unwrap();
    client.send("/topic/secured", &[], b"{\"n\":0}").unwrap();
    assert_eq!(session(&good, 1, 1), numbers(0..1));
    let answers = stomp::check(&good).unwrap();
    let server = answers[0].1.as_ref().unwrap().as_deref();
    assert!(
        server.is_some_and(|server| server.starts_with("ActiveMQ/")),
        "{server:?}"
    );

    let refused = |settings: &StompSettings| -> String {
        let error = stomp::open(settings, 0..1, 1, Extent::default(), &Offsets::new())
            .err()
            .unwrap();
        assert!(!error.is_transient(), "{error}");
        error.to_string()
    };
    let mut bad = good.clone();
    bad.security.password_file = password("wrong");
    let error = refused(&bad);
    assert!(
        error.contains(&good.brokers[0]) && error.contains("security.password_file"),
        "{error}"
    );
    assert!(stomp::check(&bad).unwrap()[0].1.is_err());
    // One that refuses stops nobody else.
    let open_one = ActiveMq::shared().unwrap();
    bad.security.tls = false;
    bad.security.ca_file = None;
    bad.brokers = vec![
        format!("127.0.0.1:{}", broker.port()),
        format!("127.0.0.1:{}", open_one.port()),
    ];
    let (mut sources, statistics) = stomp::open(&bad, 0..1, 1, Extent::default(), &Offsets::new()).unwrap();
    send(open_one.port(), "/topic/secured", 0..5);
    assert_eq!(bodies(&read(&mut *sources[0], 5)), numbers(0..5));
    assert!(statistics.snapshot().iter().any(|broker| broker.refused));

    let mut closed = good.clone();
    closed.destination = "/queue/closed".into();
    let error = refused(&closed);
    assert!(
        error.contains("/queue/closed") && error.contains("may read"),
        "{error}"
    );

    let mut stranger = good.clone();
    stranger.security.ca_file = None;
    let error = refused(&stranger);
    assert!(error.contains("security.ca_file"), "{error}");

    let mut clear = good.clone();
    clear.security.tls = false;
    clear.security.ca_file = None;
    clear.brokers = vec![format!("localhost:{}", broker.tls_port())];
    let error = stomp::open(&clear, 0..1, 1, Extent::default(), &Offsets::new())
        .err()
        .unwrap();
    assert!(error.to_string().contains("localhost"), "{error}");
}

/// A broker that answers as it is told, and then closes the connection.
fn pretender(answers: &'static [&'static [u8]]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            for answer in answers {
                let mut block = [0; 4096];
                let _ = stream.read(&mut block);
                let _ = stream.write_all(answer);
            }
        }
    });
    port
}

#[test]
fn a_broker_that_breaks_off_in_mid_frame_is_named_and_the_others_go_on() {
    const WELCOME: &[u8] = b"CONNECTED\nversion:1.2\n\n\0";
    const SUBSCRIBED: &[u8] =
        b"RECEIPT\nreceipt-id:subscribed\n\n\0MESSAGE\nmessage-id:1\nack:1\n\n{\"n\":0}\0\
        MESSAGE\nmessage-id:2\nack:2\ncontent-length:100\n\n{\"n\":";
    let half = pretender(&[WELCOME, SUBSCRIBED]);
    let broken = pretender(&[
        WELCOME,
        b"RECEIPT\nreceipt-id:subscribed\n\n\0MESSAGE\nno colon\n\n\0",
    ]);
    let web = pretender(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"]);
    let well = ActiveMq::shared().unwrap();
    let destination = "/topic/mid.frame";
    let settings = settings(&[half, broken, web, well.port()], destination);
    let (mut sources, statistics) =
        stomp::open(&settings, 0..1, 1, Extent::default(), &Offsets::new()).unwrap();
    send(well.port(), destination, 1..6);
    // The whole frame of the broken connection counts, however often the broker sends it.
    let mut came = bodies(&read(&mut *sources[0], 6));
    came.sort();
    assert_eq!(came, numbers(0..6));
    for (port, word) in [
        (half, "in the middle of a frame"),
        (broken, "`no colon`"),
        (web, "is no command of STOMP"),
    ] {
        wait_until(word, PATIENCE, || {
            let brokers = statistics.snapshot();
            let of = brokers
                .iter()
                .find(|broker| broker.stream.contains(&format!(":{port}/")))
                .unwrap();
            Ok(of.trouble.as_ref().is_some_and(|trouble| trouble.contains(word)))
        })
        .unwrap();
    }
    assert_eq!(more(&mut *sources[0]), []);
}

#[test]
fn without_any_broker_the_start_fails_and_says_where() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let settings = settings(&[port], "/topic/nobody");
    let error = stomp::open(&settings, 0..1, 1, Extent::default(), &Offsets::new())
        .err()
        .unwrap();
    assert!(matches!(error, SourceError::Unreachable { .. }));
    assert!(
        error
            .to_string()
            .contains(&format!("127.0.0.1:{port}/topic/nobody")),
        "{error}"
    );
}

#[test]
fn a_run_that_is_to_end_once_ends_when_the_queue_is_empty_and_all_is_acked() {
    let port = ActiveMq::shared().unwrap().port();
    let settings = settings(&[port], "/queue/once");
    send(port, "/queue/once", 0..5);
    let extent = Extent {
        once: true,
        ..Extent::default()
    };
    let known = Offsets::from([(
        Partition {
            stream: format!("stomp:127.0.0.1:{port}/queue/once").into(),
            partition: 0,
        },
        u64::MAX / 4,
    )]);
    let (mut sources, _) = stomp::open(&settings, 0..1, 1, extent, &known).unwrap();
    let records = read(&mut *sources[0], 5);
    // Above all that an earlier run has counted, whatever the clock says.
    assert_eq!(records[0].place.offset, u64::MAX / 4);
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(sources[0].poll(&mut Vec::new(), 10).unwrap(), Polled::Idle);
    ack(&mut *sources[0], &records[4]);
    let start = Instant::now();
    while sources[0].poll(&mut Vec::new(), 10).unwrap() != Polled::Finished {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(20));
    }
}
