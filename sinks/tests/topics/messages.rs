//! Messages that hubs and sites send each other.

use crate::shared::{event, numbered, open, read, settings};
use dbb_events::{Message, Micros, Outcome, Outgoing, Reason, Word};
use dbb_kafka::{Mechanism, Protocol};
use dbb_sinks::topics::{Messenger, Post, ProducerSettings, TopicsError};
use dbb_test_services::{Kafka, KafkaOptions, scratch};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

fn post(topic: &str, key: &str, sequence: u64) -> Post {
    let lane = crate::shared::lane("t", 0);
    let word = Word::Heartbeat { lane, sequence };
    Post::of(
        &topic.into(),
        key,
        &Message {
            word,
            created_at: Micros(1),
        },
    )
}

#[test]
fn messages_are_in_their_topic_when_the_call_returns_and_those_of_a_key_in_order() {
    let kafka = Kafka::shared().unwrap();
    let mut settings = ProducerSettings::of(kafka.bootstrap());
    settings.new_topics.partitions = 3;
    settings.max_record_bytes = 5000;
    let mut messenger = Messenger::open(&settings, Arc::default()).unwrap();
    let mut posts: Vec<Post> = (0..300)
        .map(|n| post("messages", &format!("raw:{}", n % 7), n))
        .collect();
    posts[5].body = vec![b'x'; 200_000];
    let not = messenger.send(&posts).unwrap();
    assert_eq!(not.len(), 1, "{not:?}");
    assert_eq!(not[0].index, 5);
    assert!(
        not[0].detail.contains("topic `messages` does not take it"),
        "{}",
        not[0].detail
    );
    let found = read(kafka, "messages");
    assert_eq!(found.len(), 299);
    for key in 0..7 {
        let of: Vec<&[u8]> = found
            .iter()
            .filter(|one| one.key == format!("raw:{key}"))
            .map(|one| &*one.body)
            .collect();
        let sent: Vec<&[u8]> = (0..300)
            .filter(|n| n % 7 == key && *n != 5)
            .map(|n| &*posts[n].body)
            .collect();
        assert_eq!(of, sent);
    }
    settings.new_topics.create = false;
    let mut messenger = Messenger::open(&settings, Arc::default()).unwrap();
    let not = messenger.send(&[post("no-such-topic-either", "k", 1)]).unwrap();
    assert!(
        not[0].detail.contains("does not exist: make it"),
        "{}",
        not[0].detail
    );
    assert_eq!(messenger.trouble().get(), None);
}

#[test]
fn a_messenger_waits_for_its_broker_until_it_is_told_to_stop() {
    let settings = ProducerSettings::of("127.0.0.1:9");
    let stop = Arc::new(AtomicBool::new(false));
    let mut messenger = Messenger::open(&settings, stop.clone()).unwrap();
    let trouble = messenger.trouble();
    let waiting = thread::spawn(move || messenger.send(&[post("t", "k", 1)]));
    thread::sleep(Duration::from_secs(4));
    assert!(!waiting.is_finished() && trouble.get().is_some());
    stop.store(true, Relaxed);
    assert!(matches!(waiting.join().unwrap(), Err(TopicsError::Stopped)));
}

const ACLS: &str = "org.apache.kafka.tools.AclCommand";

#[test]
fn a_topic_that_this_user_may_not_write_to_refuses_its_records_and_holds_up_no_others() {
    let properties = [
        (
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        ),
        ("super.users", "User:ANONYMOUS"),
        ("allow.everyone.if.no.acl.found", "true"),
    ];
    let kafka = Kafka::with(KafkaOptions {
        secured: true,
        properties: properties
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
        ..KafkaOptions::default()
    })
    .unwrap();
    kafka.create_topic("allowed", 2).unwrap();
    kafka.create_topic("denied", 2).unwrap();
    let denied = format!("--bootstrap-server {} --add --topic denied", kafka.bootstrap());
    for rule in [
        "--allow-principal User:* --operation All",
        "--deny-principal User:dbb --operation Write",
    ] {
        let words = format!("{denied} {rule}");
        kafka.tool(ACLS, &words.split(' ').collect::<Vec<_>>()).unwrap();
    }
    let folder = scratch("password").unwrap();
    let mut settings = settings(&kafka, Some(&folder.path().join("sent")));
    settings.kafka = secured(&kafka, folder.path());
    let mut sink = open(&settings);
    let batch = |from: u64| -> Vec<Outgoing> {
        let topic = |n: u64| if n.is_multiple_of(3) { "denied" } else { "allowed" };
        (from..from + 300).map(|n| event(topic(n), n)).collect()
    };
    for round in 0..2 {
        let restarts = sink.figures().snapshot().producer_restarts_total;
        let sent = sink.deliver(batch(round * 300)).unwrap();
        assert_eq!(sent.len(), 100);
        for one in sent {
            assert_eq!(&*one.outgoing.topic, "denied");
            let Outcome::Refused(refusal) = one.outcome else {
                panic!("{:?}", one.outcome)
            };
            assert_eq!(refusal.reason, Reason::TopicRefused);
            assert!(refusal.detail.contains("`denied`"), "{}", refusal.detail);
        }
        let after = sink.figures().snapshot().producer_restarts_total;
        assert!(round == 0 || after == restarts, "it is known by now");
    }
    let mut messenger = Messenger::open(&settings.kafka, Arc::default()).unwrap();
    let not = messenger
        .send(&[post("denied", "k", 1), post("allowed-too", "k", 1)])
        .unwrap();
    assert_eq!(not.iter().map(|not| not.index).collect::<Vec<_>>(), [0]);
    assert_eq!(read(&kafka, "allowed-too").len(), 1);
    assert_eq!(numbered(&read(&kafka, "allowed")).len(), 400);
    assert_eq!(read(&kafka, "denied"), []);
}

/// Logged in with the password that the broker knows.
fn secured(kafka: &Kafka, folder: &Path) -> ProducerSettings {
    let password = folder.join("password");
    std::fs::write(&password, format!("{}\n", Kafka::PASSWORD)).unwrap();
    let mut settings = ProducerSettings::of(kafka.bootstrap_sasl());
    settings.security.protocol = Protocol::SaslSsl;
    settings.security.ca_file = Some(kafka.certificates().unwrap().authority.clone());
    settings.security.mechanism = Some(Mechanism::ScramSha256);
    settings.security.username = Some(Kafka::USER.into());
    settings.security.password_file = Some(password);
    settings
}
