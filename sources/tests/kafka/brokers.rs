//! Brokers that die, that want a login, and that are only looked at.

use super::*;

#[test]
fn a_killed_broker_is_waited_for_and_nothing_is_lost_or_repeated() {
    let mut kafka = Kafka::start().unwrap();
    kafka.create_topic("events", 3).unwrap();
    kafka.produce("events", None, numbers(0..300)).unwrap();
    let (mut sources, statistics) = open(&settings(&kafka, "g", &["events"]), 2);
    let mut all = read(&mut sources, 300);
    kafka.kill(0).unwrap();
    assert!(read(&mut sources, 0).is_empty());
    for source in &mut sources {
        // Stored later, when there is somebody to store it.
        source.ack(&after(&all)).unwrap();
    }
    kafka.restart(0).unwrap();
    kafka.produce("events", None, numbers(300..600)).unwrap();
    all.extend(read(&mut sources, 300));
    assert_eq!((all.len(), values(&all)), (600, (0..600).collect()));
    sources[1].flush().unwrap();
    assert_eq!(kafka.committed("g", "events", 0).unwrap(), Some(100));
    assert!(statistics.snapshot().received_records_total >= 300);
}

#[test]
fn a_login_with_scram_over_tls_is_let_in_and_a_wrong_password_is_a_configuration_error() {
    let kafka = Kafka::with(KafkaOptions {
        secured: true,
        ..KafkaOptions::default()
    })
    .unwrap();
    let folder = scratch("password").unwrap();
    let (right, wrong) = (folder.path().join("right"), folder.path().join("wrong"));
    std::fs::write(&right, format!("{}\n", Kafka::PASSWORD)).unwrap();
    std::fs::write(&wrong, "a guess").unwrap();
    kafka.create_topic("events", 1).unwrap();
    kafka.produce("events", None, numbers(0..5)).unwrap();
    let security = |mechanism, password: &std::path::Path| Security {
        protocol: Protocol::SaslSsl,
        ca_file: Some(kafka.certificates().unwrap().authority.clone()),
        mechanism: Some(mechanism),
        username: Some(Kafka::USER.into()),
        password_file: Some(password.into()),
        ..Security::default()
    };
    let mut settings = KafkaSettings::of(kafka.bootstrap_sasl(), "g", &["events"]);
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512] {
        settings.security = security(mechanism, &right);
        assert_eq!(read(&mut open(&settings, 1).0, 5).len(), 5);
    }
    settings.security = security(Mechanism::ScramSha512, &wrong);
    let error = kafka::open(&settings, 0..1, 1, Extent::default())
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, SourceError::Configuration(_)), "{error}");
    // By certificate.
    let certificates = kafka.certificates().unwrap();
    settings.brokers = vec![kafka.bootstrap_tls()];
    settings.security = Security {
        protocol: Protocol::Ssl,
        ca_file: Some(certificates.authority.clone()),
        certificate_file: Some(certificates.client.clone()),
        key_file: Some(certificates.client_key.clone()),
        ..Security::default()
    };
    assert_eq!(read(&mut open(&settings, 1).0, 5).len(), 5);
}

#[test]
fn a_check_tells_what_is_there_and_what_is_not() {
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("check", 2).unwrap();
    kafka.produce("check", Some(1), numbers(0..7)).unwrap();
    let report = kafka::check(&settings(kafka, "check", &["check", "nowhere", "/no.*/"])).unwrap();
    assert_eq!(report.brokers, [kafka.bootstrap()]);
    assert_eq!(report.missing, ["nowhere", "/no.*/"]);
    let partition = &report.topics[0].partitions[1];
    assert_eq!(
        (partition.committed, partition.first, partition.end, partition.lag),
        (None, 0, 7, 7)
    );
    assert!(
        kafka.committed("check", "check", 1).unwrap().is_none(),
        "a check stores nothing"
    );
    let mut settings = KafkaSettings::of("127.0.0.1:9", "check", &["check"]);
    settings.options.insert("socket.timeout.ms".into(), "1000".into());
    let error = kafka::check(&settings).unwrap_err();
    assert!(
        matches!(&error, SourceError::Unreachable { what, .. } if what.contains("127.0.0.1:9")),
        "{error}"
    );
}

#[test]
fn one_dead_broker_of_three_keeps_nobody_from_starting_reading_and_committing() {
    let mut kafka = Kafka::with(KafkaOptions {
        brokers: 3,
        ..KafkaOptions::default()
    })
    .unwrap();
    kafka.create_topic("events", 6).unwrap();
    kafka.produce("events", None, numbers(0..600)).unwrap();
    let settings = settings(&kafka, "g", &["events"]);
    let (mut running, _) = open(&settings, 1);
    let mut all = read(&mut running, 600);
    // Whichever coordinates the group and leads a third of the partitions.
    for broker in 0..3 {
        kafka.kill(broker).unwrap();
        let (from, to) = (all.len(), all.len() + 600);
        kafka.produce("events", None, numbers(from..to)).unwrap();
        all.extend(read(&mut running, 600));
        assert_eq!(values(&all), (0..to).collect());
        running[0].ack(&after(&all)).unwrap();
        let start = Instant::now();
        while running[0].flush().is_err() {
            assert!(start.elapsed() < Duration::from_secs(90));
        }
        let (mut started, _) = open(&settings, 1);
        assert!(read(&mut started, 0).is_empty());
        drop(started);
        kafka.restart(broker).unwrap();
    }
}
