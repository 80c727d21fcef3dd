//! Messages that hubs and sites send each other.

use crate::shared::read;
use dbb_events::{Message, Micros, Word};
use dbb_kafka::{Mechanism, Protocol};
use dbb_sinks::topics::{Messenger, Post, ProducerSettings, TopicsError};
use dbb_test_services::{Kafka, KafkaOptions, scratch};
use std::{
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

#[test]
fn a_secured_broker_takes_messages_of_who_has_the_password() {
    let kafka = Kafka::with(KafkaOptions {
        secured: true,
        ..KafkaOptions::default()
    })
    .unwrap();
    let folder = scratch("password").unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, format!("{}\n", Kafka::PASSWORD)).unwrap();
    let mut settings = ProducerSettings::of(kafka.bootstrap_sasl());
    settings.security.protocol = Protocol::SaslSsl;
    settings.security.ca_file = Some(kafka.certificates().unwrap().authority.clone());
    settings.security.mechanism = Some(Mechanism::ScramSha256);
    settings.security.username = Some(Kafka::USER.into());
    settings.security.password_file = Some(password);
    let mut messenger = Messenger::open(&settings, Arc::default()).unwrap();
    assert_eq!(messenger.send(&[post("secured", "k", 1)]).unwrap(), []);
    assert_eq!(read(&kafka, "secured").len(), 1);
}
