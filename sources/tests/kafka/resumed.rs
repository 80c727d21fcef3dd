//! Where a source begins that is told where to: by a checkpoint, or at the oldest record.

use super::*;

#[test]
fn read_from_the_beginning_what_the_group_has_stored_is_known_and_stays_stored() {
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("views", 2).unwrap();
    kafka.produce("views", None, numbers(0..100)).unwrap();
    let settings = settings(kafka, "views", &["views"]);
    let (mut sources, _) = open(&settings, 1);
    let first = read(&mut sources, 100);
    let stored = after(&first[..60]);
    sources[0].ack(&stored).unwrap();
    sources[0].flush().unwrap();
    drop(sources);

    let extent = Extent {
        once: true,
        begin: Begin::Oldest,
    };
    let (mut sources, _) = kafka::open(&settings, 0..1, 1, extent).unwrap();
    assert!(!sources[0].caught_up());
    let again = drain(&mut sources[0]);
    assert_eq!((again.len(), values(&again)), (100, (0..100).collect()));
    assert!(sources[0].caught_up());
    for (partition, offset) in &stored {
        assert_eq!(sources[0].known_to(partition), *offset);
    }
    sources[0].flush().unwrap();
    for partition in [0, 1] {
        let known = stored.iter().find(|(p, _)| p.partition == partition);
        let known = known.map(|(_, offset)| *offset as i64).or(Some(0));
        assert_eq!(kafka.committed("views", "views", partition).unwrap(), known);
    }
}

/// A source that begins where a checkpoint says: at these offsets.
fn resume(settings: &KafkaSettings, named: &Offsets) -> Box<dyn Source> {
    // As a checkpoint of before there were incarnations has it.
    let at = |(partition, next): (&Partition, &u64)| {
        (partition.clone(), Position::new(Incarnation::default(), *next))
    };
    let extent = Extent {
        once: true,
        begin: Begin::At(Arc::new(named.iter().map(at).collect())),
    };
    kafka::open(settings, 0..1, 1, extent).unwrap().0.remove(0)
}

fn first_of(topic: &str) -> Partition {
    Partition {
        stream: topic.into(),
        partition: 0,
    }
}

#[test]
fn a_checkpoint_says_where_to_begin_and_the_group_what_is_known() {
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("resumed", 1).unwrap();
    kafka.produce("resumed", None, numbers(0..100)).unwrap();
    let settings = settings(kafka, "resumed", &["resumed", "resumed-new"]);
    let (mut sources, _) = open(&settings, 1);
    let first = read(&mut sources, 100);
    sources[0].ack(&after(&first[..60])).unwrap();
    sources[0].flush().unwrap();
    drop(sources);
    kafka.create_topic("resumed-new", 1).unwrap();
    kafka.produce("resumed-new", None, numbers(100..110)).unwrap();

    // Behind the group: what is between is known.
    let partition = first_of("resumed");
    let mut source = resume(&settings, &Offsets::from([(partition.clone(), 40)]));
    let new = first_of("resumed-new");
    let begins = Offsets::from([(partition.clone(), 40), (new.clone(), 0)]);
    assert_eq!(source.begins(), begins);
    assert_eq!(values(&drain(&mut source)), (40..110).collect());
    assert_eq!((source.known_to(&partition), source.known_to(&new)), (60, 0));
    assert_eq!(source.take_gaps(), []);
    drop(source);

    // Before the group, which had not heard of the last outcomes: it has now.
    let mut source = resume(&settings, &Offsets::from([(partition.clone(), 80)]));
    assert_eq!(values(&drain(&mut source)), (80..110).collect());
    assert_eq!(source.known_to(&partition), 80);
    assert_eq!(kafka.committed("resumed", "resumed", 0).unwrap(), Some(80));
}

#[test]
fn records_that_a_checkpoint_wants_and_retention_took_are_a_gap_that_is_told_exactly() {
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("retained", 1).unwrap();
    kafka.produce("retained", None, numbers(0..100)).unwrap();
    let settings = settings(kafka, "retained", &["retained"]);
    let (mut sources, _) = open(&settings, 1);
    let first = read(&mut sources, 100);
    sources[0].ack(&after(&first[..60])).unwrap();
    sources[0].flush().unwrap();
    drop(sources);
    kafka.delete_records("retained", 0, 50).unwrap();

    let partition = first_of("retained");
    let mut source = resume(&settings, &Offsets::from([(partition.clone(), 20)]));
    assert_eq!(source.begins(), Offsets::from([(partition.clone(), 50)]));
    assert_eq!(values(&drain(&mut source)), (50..100).collect());
    let gap = Gap {
        partition: partition.clone(),
        from: 20,
        to: 50,
        records: Some(30),
    };
    assert_eq!(source.take_gaps(), [gap]);
    assert_eq!(source.take_gaps(), [], "told once");
    drop(source);

    // Another topic of the same name, shorter than what was read.
    kafka.delete_topic("retained").unwrap();
    kafka.create_topic("retained", 1).unwrap();
    kafka.produce("retained", None, numbers(0..10)).unwrap();
    let mut source = resume(&settings, &Offsets::from([(partition.clone(), 70)]));
    assert_eq!(values(&drain(&mut source)), (0..10).collect());
    let gap = Gap {
        partition: partition.clone(),
        from: 70,
        to: 0,
        records: None,
    };
    assert_eq!(source.take_gaps(), [gap]);
    assert_eq!(source.known_to(&partition), 0);
}
