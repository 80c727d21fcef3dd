//! Deaths: of the publishing process, of the broker, of room on the disk.
//!
//! Some need a process of their own: this program once more, told by a variable what to be.

use crate::shared::{event, events, numbered, open, read, settings};
use dbb_events::Outgoing;
use dbb_sinks::topics::{ProducerSettings, SentLogSettings, Share, TopicsSettings, TopicsSink};
use dbb_test_services::{Kafka, scratch, wait_until};
use std::{
    collections::BTreeSet,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

const ROLE: &str = "TOPICS_TEST_ROLE";
const BROKERS: &str = "TOPICS_TEST_BROKERS";
const FOLDER: &str = "TOPICS_TEST_FOLDER";

/// This program, in another role, with `before` in front of it.
fn other(before: &[&str], role: &str, kafka: &Kafka, folder: &Path) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut words: Vec<&std::ffi::OsStr> = before.iter().map(std::ffi::OsStr::new).collect();
    words.push(program.as_os_str());
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .args(["--exact", "deaths::in_another_process", "--nocapture"])
        .env(ROLE, role)
        .env(BROKERS, kafka.bootstrap())
        .env(FOLDER, folder);
    command
}

/// Not a test: what the processes that tests start do.
#[test]
fn in_another_process() {
    let (Ok(role), Ok(folder)) = (std::env::var(ROLE), std::env::var(FOLDER)) else {
        return;
    };
    let folder = Path::new(&folder);
    let mut settings = TopicsSettings::of(std::env::var(BROKERS).unwrap());
    settings.kafka.new_topics.partitions = 4;
    settings.sent_log = Some(SentLogSettings::of(folder.join("sent")));
    settings.requests = None;
    match role.as_str() {
        "publish" => publish(settings, folder),
        "fill" => fill(&settings),
        other => panic!("{other}"),
    }
}

/// Publishes what has no outcome yet, in another order each time, and writes down how far it came, as a source does.
fn publish(mut settings: TopicsSettings, folder: &Path) {
    settings.sent_log.as_mut().unwrap().segment_bytes = 100_000;
    let file = folder.join("done");
    let done = std::fs::read_to_string(&file)
        .ok()
        .and_then(|text| text.parse().ok());
    let mut done: u64 = done.unwrap_or(0);
    let mut sink = open(&settings);
    for round in 0.. {
        let size = 1 + (u64::from(std::process::id()) * 7 + round * 13) % 300;
        let mut batch = events("killed", done..done + size);
        let middle = batch.len() as u64 * 5 / 7;
        batch.rotate_left(middle as usize);
        assert_eq!(sink.deliver(batch).unwrap(), []);
        done += size;
        let new = folder.join("new");
        std::fs::write(&new, done.to_string()).unwrap();
        std::fs::rename(&new, &file).unwrap();
    }
}

/// Ends with its handle.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn whenever_the_publisher_is_killed_no_number_is_skipped_or_given_to_two_records() {
    let kafka = Kafka::shared().unwrap();
    let folder = scratch("sent").unwrap();
    let done = || {
        let text = std::fs::read_to_string(folder.path().join("done")).unwrap_or_default();
        text.parse::<u64>().unwrap_or(0)
    };
    for round in 0..12_u64 {
        let before = done();
        let child = Running(
            other(&[], "publish", kafka, folder.path())
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        );
        wait_until("it has published something", Duration::from_secs(60), || {
            Ok(done() > before)
        })
        .unwrap();
        thread::sleep(Duration::from_millis(
            (u64::from(std::process::id()) + round * 37) % 90,
        ));
        drop(child);
    }
    let done = done();
    // What the last one had written down is sent by the next.
    let mut settings = settings(kafka, Some(&folder.path().join("sent")));
    settings.requests = None;
    drop(open(&settings));
    let found = read(kafka, "killed");
    let ids: BTreeSet<String> = numbered(&found).into_values().collect();
    for n in 0..done {
        let id = event("killed", n).event.to_string();
        assert!(
            ids.contains(&id),
            "event {n} of {done} has an outcome and is not there"
        );
    }
    println!(
        "{done} events, {} records, {} of them twice",
        found.len(),
        found.len() - numbered(&found).len()
    );
}

#[test]
fn a_broker_that_dies_in_mid_batch_is_waited_for_and_gets_everything_in_order() {
    let mut kafka = Kafka::start().unwrap();
    let folder = scratch("sent").unwrap();
    let mut settings = settings(&kafka, Some(folder.path()));
    settings.kafka.linger_ms = 0;
    let topics = [(dbb_events::Rse::new("SLAC_RAW"), Arc::from("outage"))];
    let mut sink = TopicsSink::open(&settings, &topics, Share::default(), Arc::default()).unwrap();
    let figures = sink.figures();
    let publishing = thread::spawn(move || {
        for batch in events("outage", 0..40_000).chunks(4000) {
            assert_eq!(sink.deliver(batch.to_vec()).unwrap(), []);
        }
    });
    for round in 0..2_u64 {
        wait_until("a part is published", Duration::from_secs(60), || {
            Ok(figures.snapshot().published_total.values().sum::<u64>() > round * 12_000)
        })
        .unwrap();
        thread::sleep(Duration::from_millis(20));
        kafka.kill(0).unwrap();
        if round == 0 {
            wait_until("the trouble is told", Duration::from_secs(60), || {
                Ok(figures.snapshot().trouble.is_some())
            })
            .unwrap();
        }
        kafka.restart(0).unwrap();
    }
    publishing.join().unwrap();
    assert_eq!(figures.snapshot().trouble, None);
    let found = read(&kafka, "outage");
    assert_eq!(numbered(&found).len(), 40_000);
}

#[test]
fn who_leaves_while_the_broker_is_down_is_not_held_up_and_nothing_is_lost() {
    let mut kafka = Kafka::start().unwrap();
    let folder = scratch("sent").unwrap();
    let settings = settings(&kafka, Some(folder.path()));
    let stop = Arc::new(AtomicBool::new(false));
    let mut sink = TopicsSink::open(&settings, &[], Share::default(), stop.clone()).unwrap();
    sink.deliver(events("left", 0..100)).unwrap();
    kafka.kill(0).unwrap();
    let publishing = thread::spawn(move || {
        sink.deliver(events("left", 100..200))
            .map_err(|error| error.to_string())
    });
    thread::sleep(Duration::from_millis(500));
    assert!(!publishing.is_finished());
    stop.store(true, Relaxed);
    let error = publishing.join().unwrap().unwrap_err();
    assert!(error.contains("told to stop"), "{error}");
    kafka.restart(0).unwrap();
    // What was written down is sent under its own numbers, before anything new.
    drop(open(&settings));
    assert_eq!(numbered(&read(&kafka, "left")).len(), 200);
    // The source reads again what has no outcome.
    open(&settings).deliver(events("left", 100..200)).unwrap();
    let ids: BTreeSet<String> = numbered(&read(&kafka, "left")).into_values().collect();
    assert_eq!(ids.len(), 200);
}

/// The file size limit stands for a disk that is full.
fn fill(settings: &TopicsSettings) {
    let mut sink = open(settings);
    let figures = sink.figures();
    thread::spawn(move || {
        for n in 0.. {
            let batch: Vec<Outgoing> = events("fills", n * 50..n * 50 + 50);
            assert_eq!(sink.deliver(batch).unwrap(), []);
            println!("delivered {}", n * 50 + 50);
        }
    });
    wait_until("it says that the disk is full", Duration::from_secs(60), || {
        Ok(figures
            .snapshot()
            .trouble
            .is_some_and(|said| said.contains("make room")))
    })
    .unwrap();
    println!("trouble: {}", figures.snapshot().trouble.unwrap());
}

#[test]
fn when_the_disk_is_full_outcomes_are_held_back_and_it_is_said() {
    let kafka = Kafka::shared().unwrap();
    let folder = scratch("sent").unwrap();
    let limited = ["sh", "-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh"];
    let output = other(&limited, "fill", kafka, folder.path()).output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("trouble: the sent log could not write") && said.contains("make room there"),
        "{said}"
    );
    let delivered = said
        .lines()
        .filter_map(|line| line.rsplit("delivered ").next()?.parse::<u64>().ok())
        .max();
    let delivered = delivered.unwrap_or(0);
    assert!(delivered > 0, "{said}");
    // With room again it goes on.
    let settings = settings(kafka, Some(&folder.path().join("sent")));
    open(&settings)
        .deliver(events("fills", delivered..delivered + 500))
        .unwrap();
    let ids: BTreeSet<String> = numbered(&read(kafka, "fills")).into_values().collect();
    for n in 0..delivered + 500 {
        assert!(
            ids.contains(&event("fills", n).event.to_string()),
            "event {n} of {delivered}"
        );
    }
}

#[test]
fn without_any_broker_the_start_says_so() {
    let mut settings = TopicsSettings::of("127.0.0.1:9");
    settings.kafka = ProducerSettings::of("127.0.0.1:9");
    settings.requests = None;
    let stop = Arc::new(AtomicBool::new(false));
    let later = stop.clone();
    thread::spawn(move || {
        thread::sleep(Duration::from_secs(2));
        later.store(true, Relaxed);
    });
    let topics = [(dbb_events::Rse::new("X"), Arc::from("x"))];
    let error = TopicsSink::open(&settings, &topics, Share::default(), stop)
        .err()
        .unwrap();
    assert!(error.to_string().contains("told to stop"), "{error}");
}
