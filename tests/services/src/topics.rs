//! What tests do to topics: make and delete them, fill them, forget their oldest records.

use crate::{Kafka, wait_until};
use anyhow::{Context, Result, anyhow, ensure};
use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext},
};
use std::{
    future::Future,
    pin::pin,
    sync::{Arc, OnceLock},
    task::{Context as TaskContext, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(30);
/// Brokers that share two cores with a whole run of tests take long to agree.
const LEADERS: Duration = Duration::from_secs(120);

impl Kafka {
    /// Makes a topic.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.create_topic_with(name, partitions, &[])
    }

    /// Makes a topic with settings of its own, `("cleanup.policy", "compact")`; returns when every
    /// partition has a leader.
    pub fn create_topic_with(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let done = block_on(self.admin()?.create_topics([&topic], &options()))?;
        all_done(done)?;
        self.wait_for_leaders(name, partitions)
    }

    /// Raises the number of partitions of a topic.
    pub fn add_partitions(&self, name: &str, partitions: i32) -> Result<()> {
        let done = block_on(
            self.admin()?
                .create_partitions([&NewPartitions::new(name, partitions.try_into()?)], &options()),
        )?;
        all_done(done)?;
        self.wait_for_leaders(name, partitions)
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        all_done(block_on(self.admin()?.delete_topics(&[name], &options()))?)
    }

    /// Gives a topic settings of its own; those not given become the broker's.
    pub fn set_topic(&self, name: &str, settings: &[(&str, &str)]) -> Result<()> {
        let mut config = AlterConfig::new(ResourceSpecifier::Topic(name));
        for (key, value) in settings {
            config = config.set(key, value);
        }
        for result in block_on(self.admin()?.alter_configs([&config], &options()))? {
            result.map_err(|(_, code)| anyhow!("topic {name}: {code}"))?;
        }
        Ok(())
    }

    /// Makes a partition forget its records below `offset`, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        let done = block_on(self.admin()?.delete_records(&list, &options()))?;
        for element in done.elements() {
            element.error()?;
        }
        Ok(())
    }

    /// Appends records without keys to one partition, or to all in turn; returns when all are stored.
    pub fn produce<V: AsRef<[u8]>>(
        &self,
        topic: &str,
        partition: Option<i32>,
        values: impl IntoIterator<Item = V>,
    ) -> Result<()> {
        let producer: BaseProducer<Deliveries> = self
            .config()
            .set("linger.ms", "1")
            .set("message.timeout.ms", "60000")
            .create_with_context(Deliveries::default())?;
        let count = producer
            .client()
            .fetch_metadata(Some(topic), Duration::from_secs(8))?;
        let count = count.topics().first().map_or(0, |topic| topic.partitions().len()) as i32;
        ensure!(count > 0, "topic {topic} has no partitions");
        for (value, next) in values.into_iter().zip(0..) {
            let mut record = BaseRecord::<[u8], [u8]>::to(topic)
                .payload(value.as_ref())
                .partition(partition.unwrap_or(next % count));
            while let Err((error, unsent)) = producer.send(record) {
                ensure!(
                    error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull),
                    "could not produce: {error}"
                );
                producer.poll(Duration::from_millis(10));
                record = unsent;
            }
            producer.poll(Duration::ZERO);
        }
        producer.flush(LIMIT)?;
        match producer.context().failure.get() {
            Some(error) => Err(anyhow!("could not produce: {error}")),
            None => Ok(()),
        }
    }

    /// How many partitions a topic has.
    pub fn partitions(&self, topic: &str) -> Result<i32> {
        let metadata = self.client()?.fetch_metadata(Some(topic), LIMIT)?;
        Ok(metadata
            .topics()
            .first()
            .map_or(0, |topic| topic.partitions().len()) as i32)
    }

    /// The offset after the last record of a partition.
    pub fn end_offset(&self, topic: &str, partition: i32) -> Result<i64> {
        Ok(self.client()?.fetch_watermarks(topic, partition, LIMIT)?.1)
    }

    /// The offset of the oldest record a partition still has.
    pub fn first_offset(&self, topic: &str, partition: i32) -> Result<i64> {
        Ok(self.client()?.fetch_watermarks(topic, partition, LIMIT)?.0)
    }

    /// The offset a group has committed for a partition; `None` if it has not.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Result<Option<i64>> {
        let client: BaseConsumer = self.config().set("group.id", group).create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let list = client.committed_offsets(list, LIMIT)?;
        Ok(list
            .find_partition(topic, partition)
            .and_then(|found| found.offset().to_raw())
            .filter(|raw| *raw >= 0))
    }

    /// Settings for a client of this cluster without security.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.bootstrap())
            .set("log_level", "2");
        config
    }

    fn client(&self) -> Result<BaseConsumer> {
        Ok(self.config().create()?)
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.config().create()?)
    }

    fn wait_for_leaders(&self, topic: &str, partitions: i32) -> Result<()> {
        let client = self.client()?;
        wait_until(&format!("topic {topic} has its leaders"), LEADERS, || {
            let metadata = client.fetch_metadata(Some(topic), LIMIT)?;
            let led = metadata
                .topics()
                .iter()
                .flat_map(|topic| topic.partitions())
                .filter(|p| p.leader() >= 0);
            Ok(led.count() == usize::try_from(partitions)?)
        })
    }
}

/// Keeps the first failure: a record that timed out leaves the producer's queue like any other.
#[derive(Default)]
struct Deliveries {
    failure: OnceLock<KafkaError>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let _ = self.failure.set(error.clone());
        }
    }
}

/// The first offset of a partition, and the one after its last: a topic that was made just now has leaders a moment later.
pub fn watermarks(consumer: &BaseConsumer, topic: &str, partition: i32) -> Result<(i64, i64)> {
    let mut found = None;
    wait_until(&format!("{topic}/{partition} has a leader"), LIMIT, || {
        found = consumer.fetch_watermarks(topic, partition, LIMIT).ok();
        Ok(found.is_some())
    })?;
    found.context("no leader")
}

/// The ids of the brokers that the first one to answer knows; none if none answers.
pub(crate) fn brokers_seen(config: &ClientConfig, seconds: u64) -> Result<Vec<i32>> {
    // Level 0: that nobody answers yet is what is being asked.
    let client: BaseConsumer = config.clone().set("log_level", "0").create()?;
    match client.fetch_metadata(None, Duration::from_secs(seconds)) {
        Ok(metadata) => Ok(metadata.brokers().iter().map(|broker| broker.id()).collect()),
        Err(_) => Ok(Vec::new()),
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(LIMIT))
        .request_timeout(Some(LIMIT))
}

fn all_done(done: Vec<rdkafka::admin::TopicResult>) -> Result<()> {
    for result in done {
        result.map_err(|(topic, code)| anyhow!("topic {topic}: {code}"))?;
    }
    Ok(())
}

/// Waits for a future that another thread completes.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
