//! Topics that are made again, logs that go back, offsets that expire, brokers that freeze, ledgers that are lost.

use super::*;
use dbb_sources::{
    Positions,
    kafka::{Finding, Memory},
};

/// Polls until all of these values came at least once; whatever else came is there too.
fn read_all(sources: &mut [Box<dyn Source>], wanted: BTreeSet<usize>) -> Vec<Received> {
    let (mut batch, start) = (Vec::new(), Instant::now());
    while !wanted.is_subset(&values(&batch)) {
        for source in &mut *sources {
            source.poll(&mut batch, 100).unwrap();
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "only {:?} came of {wanted:?}",
            values(&batch)
        );
        sleep(Duration::from_millis(2));
    }
    batch
}

fn ack(sources: &mut [Box<dyn Source>], offsets: &[(&str, u64)]) {
    let of = |(topic, next): &(&str, u64)| {
        let stream = (*topic).into();
        (Partition { stream, partition: 0 }, *next)
    };
    for source in &mut *sources {
        source.ack(&offsets.iter().map(of).collect()).unwrap();
    }
    let start = Instant::now();
    while sources[0].flush().is_err() {
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}

fn found(statistics: &KafkaStatistics, kind: &str) -> u64 {
    statistics
        .snapshot()
        .findings_total
        .get(kind)
        .copied()
        .unwrap_or(0)
}

#[test]
fn a_topic_made_again_while_nobody_read_is_read_from_its_beginning_and_said_to_be_another() {
    let kafka = Kafka::shared().unwrap();
    for start in [Start::Earliest, Start::Latest] {
        let topic = format!("again-{start:?}");
        let settings = KafkaSettings {
            start,
            ..settings(kafka, &topic, &[&topic])
        };
        kafka.create_topic(&topic, 1).unwrap();
        let (mut sources, statistics) = open(&settings, 1);
        kafka.produce(&topic, None, numbers(0..11)).unwrap();
        read(&mut sources, 11);
        ack(&mut sources, &[(&topic, 4)]);
        let memory = Memory {
            handled: statistics.handled(),
            ..Memory::default()
        };
        drop(sources);
        kafka.delete_topic(&topic).unwrap();
        kafka.create_topic(&topic, 1).unwrap();
        kafka.produce(&topic, None, numbers(20..31)).unwrap();
        let (mut sources, statistics) =
            kafka::open_with(&settings, 0..1, 1, Extent::default(), memory).unwrap();
        assert_eq!(found(&statistics, "topic_made_again"), 1);
        assert_eq!(values(&read(&mut sources, 11)), (20..31).collect());
        // Brokers forget a group's offsets with the topic: then nothing tells of the old one but ledger and checkpoint.
        ack(&mut sources, &[(&topic, 5)]);
        let stored = statistics.handled();
        let incarnation = stored.values().next().unwrap().incarnation;
        drop(sources);
        kafka.delete_topic(&topic).unwrap();
        kafka.create_topic(&topic, 1).unwrap();
        kafka.produce(&topic, None, numbers(40..46)).unwrap();
        let memory = Memory {
            handled: stored.clone(),
            ..Memory::default()
        };
        let (mut sources, statistics) =
            kafka::open_with(&settings, 0..1, 1, Extent::default(), memory).unwrap();
        assert_eq!(values(&read(&mut sources, 6)), (40..46).collect());
        assert_eq!(found(&statistics, "topic_made_again"), 1);
        assert!(
            statistics
                .handled()
                .values()
                .all(|at| at.incarnation != incarnation)
        );
        let told = statistics.snapshot().findings.values().next().unwrap().1.clone();
        assert!(
            told.contains("made again") && told.contains("dbb reconcile"),
            "{told}"
        );
        // And by a checkpoint.
        let extent = Extent {
            once: true,
            begin: Begin::At(Arc::new(stored)),
        };
        let (mut sources, _) = kafka::open(&settings, 0..1, 1, extent).unwrap();
        assert_eq!(values(&drain(&mut sources[0])), (40..46).collect());
        assert_eq!(
            sources[0].take_gaps().len(),
            1,
            "the views lack what was never read"
        );
    }
}

#[test]
fn a_topic_made_again_while_it_is_read_is_found_however_many_records_it_has() {
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("live", 1).unwrap();
    kafka.produce("live", None, numbers(0..6)).unwrap();
    let (mut sources, statistics) = open(&settings(kafka, "live", &["live"]), 1);
    read(&mut sources, 6);
    ack(&mut sources, &[("live", 6)]);
    let mut known = 100;
    // Fewer records than were read of the one before, as many, and more.
    for (round, count) in [(1, 3), (2, 3), (3, 20)] {
        kafka.delete_topic("live").unwrap();
        kafka.create_topic("live", 1).unwrap();
        kafka
            .produce("live", None, numbers(known..known + count))
            .unwrap();
        read_all(&mut sources, (known..known + count).collect());
        let start = Instant::now();
        while found(&statistics, "topic_made_again") < round {
            read(&mut sources, 0);
            assert!(start.elapsed() < Duration::from_secs(30), "nothing is said");
        }
        // Both may be read of the new one: what it had before it was known to be another, and all of it again.
        read(&mut sources, 0);
        ack(&mut sources, &[("live", count as u64)]);
        assert_eq!(kafka.committed("live", "live", 0).unwrap(), Some(count as i64));
        known += 100;
    }
}

/// Nothing was committed since the copy, or something was; fewer records came since than were lost, or more.
#[test]
fn a_log_that_went_back_while_it_is_read_is_found_and_gone_on_from() {
    for (acked, since) in [(true, 5), (true, 35), (false, 5)] {
        let mut kafka = Kafka::start().unwrap();
        kafka.create_topic("back", 1).unwrap();
        kafka.produce("back", None, numbers(0..20)).unwrap();
        let (mut sources, statistics) = open(&settings(&kafka, "back", &["back"]), 1);
        read(&mut sources, 20);
        ack(&mut sources, &[("back", 15)]);
        let copy = kafka.copy_data(0).unwrap();
        kafka.produce("back", None, numbers(20..40)).unwrap();
        read_all(&mut sources, (20..40).collect());
        if acked {
            ack(&mut sources, &[("back", 40)]);
        }
        kafka.restore_data(0, copy.path()).unwrap();
        kafka.produce("back", None, numbers(100..100 + since)).unwrap();
        read_all(&mut sources, (100..100 + since).collect());
        assert!(
            found(&statistics, "log_went_back") > 0,
            "{:?}",
            statistics.snapshot()
        );
        let end = 20 + since as u64;
        ack(&mut sources, &[("back", end)]);
        assert_eq!(kafka.committed("back", "back", 0).unwrap(), Some(end as i64));
        let start = Instant::now();
        while statistics.snapshot().partitions[0].lag > 0 || statistics.snapshot().trouble.is_some() {
            read(&mut sources, 0);
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "{:?}",
                statistics.snapshot()
            );
        }
        kafka.produce("back", None, numbers(200..205)).unwrap();
        read_all(&mut sources, (200..205).collect());
    }
}

#[test]
fn an_offset_that_has_expired_is_not_taken_from_the_end_and_one_that_is_stored_again_does_not_expire() {
    let kafka = Kafka::with(KafkaOptions {
        properties: vec![
            ("offsets.retention.minutes".into(), "1".into()),
            ("offsets.retention.check.interval.ms".into(), "1000".into()),
        ],
        ..KafkaOptions::default()
    })
    .unwrap();
    for topic in ["expires", "stays"] {
        kafka.create_topic(topic, 1).unwrap();
    }
    let of = |topic: &str, again| KafkaSettings {
        start: Start::Latest,
        commit_again_seconds: again,
        ..settings(&kafka, topic, &[topic])
    };
    let (mut expires, remembered) = open(&of("expires", 86_400), 1);
    let (mut stays, _) = open(&of("stays", 5), 1);
    for (topic, sources) in [("expires", &mut expires), ("stays", &mut stays)] {
        kafka.produce(topic, None, numbers(0..5)).unwrap();
        read(sources, 5);
        ack(sources, &[(topic, 5)]);
    }
    let handled: Positions = remembered.handled();
    drop(expires);
    kafka.produce("expires", None, numbers(5..8)).unwrap();
    let start = Instant::now();
    while kafka.committed("expires", "expires", 0).unwrap().is_some() {
        read(&mut stays, 0);
        assert!(start.elapsed() < Duration::from_secs(240), "it never expires");
    }
    sleep(Duration::from_secs(10));
    assert_eq!(kafka.committed("stays", "stays", 0).unwrap(), Some(5));
    let memory = Memory {
        handled,
        ..Memory::default()
    };
    let (mut sources, statistics) =
        kafka::open_with(&of("expires", 86_400), 0..1, 1, Extent::default(), memory).unwrap();
    assert_eq!(values(&read(&mut sources, 3)), (5..8).collect());
    assert!(statistics.snapshot().findings_total.is_empty(), "nothing is lost");
}

#[test]
fn a_frozen_broker_is_named_within_ten_seconds_keeps_nobody_waiting_and_is_read_at_once_when_it_is_back() {
    let mut kafka = Kafka::start().unwrap();
    kafka.create_topic("frozen", 1).unwrap();
    kafka.produce("frozen", None, numbers(0..10)).unwrap();
    let (mut sources, statistics) = open(&settings(&kafka, "frozen", &["frozen"]), 1);
    let all = read(&mut sources, 10);
    kafka.signal(0, "STOP").unwrap();
    let frozen = Instant::now();
    let mut longest = Duration::ZERO;
    while !statistics
        .snapshot()
        .trouble
        .is_some_and(|told| told.contains("frozen[0]"))
    {
        let call = Instant::now();
        let _ = sources[0].ack(&after(&all));
        sources[0].poll(&mut Vec::new(), 100).unwrap();
        longest = longest.max(call.elapsed());
        assert!(frozen.elapsed() < Duration::from_secs(10), "nobody says who");
        sleep(Duration::from_millis(5));
    }
    let told = statistics.snapshot().trouble.unwrap();
    assert!(
        told.contains("has not answered") && told.contains("frozen[0]"),
        "{told}"
    );
    sleep(Duration::from_secs(20));
    let failures = statistics.snapshot().commit_failures_total;
    assert!(failures < 30, "{failures} commits in 20 s");
    kafka.signal(0, "CONT").unwrap();
    let back = Instant::now();
    kafka.produce("frozen", None, numbers(10..20)).unwrap();
    read_all(&mut sources, (10..20).collect());
    println!(
        "longest call {longest:?}, read {:?} after it was back",
        back.elapsed()
    );
    ack(&mut sources, &[("frozen", 20)]);
    while statistics.snapshot().trouble.is_some() {
        assert!(
            back.elapsed() < Duration::from_secs(30),
            "{:?}",
            statistics.snapshot().trouble
        );
        sleep(Duration::from_millis(50));
    }
    assert!(longest < Duration::from_secs(1), "a call took {longest:?}");
}

#[test]
fn what_a_lost_ledger_had_is_read_again_from_where_the_ledger_knows() {
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("ledger", 1).unwrap();
    kafka.produce("ledger", None, numbers(0..10)).unwrap();
    let settings = settings(kafka, "ledger", &["ledger"]);
    let open = |ledger, at, handled: Positions| {
        let memory = Memory {
            mark: Some(Mark { ledger, at }),
            handled,
            ..Memory::default()
        };
        kafka::open_with(&settings, 0..1, 1, Extent::default(), memory).unwrap()
    };
    let (mut sources, statistics) = open(1, 50, Positions::new());
    read(&mut sources, 10);
    ack(&mut sources, &[("ledger", 6)]);
    let six = statistics.handled();
    ack(&mut sources, &[("ledger", 10)]);
    drop(sources);
    // As it was, and further on.
    for at in [50, 60] {
        let (mut sources, statistics) = open(1, at, six.clone());
        assert!(read(&mut sources, 0).is_empty() && statistics.snapshot().findings_total.is_empty());
    }
    // The last of these has stored its own mark, 60.
    let memory = Memory {
        mark: Some(Mark { ledger: 1, at: 59 }),
        handled: six.clone(),
        ..Memory::default()
    };
    let report = kafka::check_with(&settings, &memory).unwrap();
    let told = report.topics[0].partitions[0].finding.clone().unwrap();
    assert!(
        told.contains("is older than it was") && told.contains("goes back to offset 6"),
        "{told}"
    );
    let (mut sources, statistics) = open(1, 59, six.clone());
    assert_eq!(values(&read(&mut sources, 4)), (6..10).collect());
    assert_eq!(found(&statistics, "ledger_lost"), 1);
    ack(&mut sources, &[("ledger", 10)]);
    drop(sources);
    let (mut sources, statistics) = open(2, 1, Positions::new());
    assert_eq!(values(&read(&mut sources, 10)), (0..10).collect());
    let told = statistics.snapshot().findings.values().next().unwrap().1.clone();
    assert!(told.contains("is another than that which has"), "{told}");
    assert!(Finding::KINDS.contains(&"ledger_lost"));
}
