//! Topic ids: what tells a topic from one that is made later under its name.
//!
//! ```text
//!   names --> DescribeTopics --> name and id of each topic that is there
//! ```
//!
//! The binding of librdkafka that we use has no call for it; what is below speaks to the C library. Each object that the
//! library gives us is owned by one value here, which gives it back once.
#![allow(unsafe_code)]

use rdkafka::{
    ClientContext,
    bindings::{
        rd_kafka_AdminOptions_destroy, rd_kafka_AdminOptions_new, rd_kafka_AdminOptions_set_request_timeout,
        rd_kafka_AdminOptions_t, rd_kafka_DescribeTopics, rd_kafka_DescribeTopics_result_topics,
        rd_kafka_TopicCollection_destroy, rd_kafka_TopicCollection_of_topic_names,
        rd_kafka_TopicCollection_t, rd_kafka_TopicDescription_error, rd_kafka_TopicDescription_name,
        rd_kafka_TopicDescription_topic_id, rd_kafka_Uuid_least_significant_bits,
        rd_kafka_Uuid_most_significant_bits, rd_kafka_admin_op_t, rd_kafka_error_code,
        rd_kafka_event_DescribeTopics_result, rd_kafka_event_destroy, rd_kafka_event_error, rd_kafka_event_t,
        rd_kafka_queue_destroy, rd_kafka_queue_new, rd_kafka_queue_poll, rd_kafka_queue_t,
        rd_kafka_resp_err_t,
    },
    client::Client,
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{CStr, CString},
    ptr::{self, NonNull},
    time::Duration,
};

/// What the library takes longer than `limit` to say that it could not be asked in time.
const GRACE: Duration = Duration::from_secs(1);

/// The ids of those of these topics that are there; 0 from brokers that know no ids (before Kafka 2.8).
///
/// # Errors
///
/// No broker has answered within `limit`, or the one that has refuses to.
pub fn topic_ids<C: ClientContext>(
    client: &Client<C>,
    topics: &BTreeSet<&str>,
    limit: Duration,
) -> Result<BTreeMap<String, u128>, KafkaError> {
    // What has a zero in it names no topic, and an empty list is refused.
    let names: Vec<CString> = topics
        .iter()
        .filter_map(|name| CString::new(*name).ok())
        .collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let handle = client.native_ptr();
    // SAFETY: `handle` is that of a living client: `client` is borrowed until the end of this function, so it is not
    // destroyed before what is made from it here; these are local, and their order of destruction among each other is
    // free, because the library counts who uses a queue. `pointers` holds as many pointers as are said, each to a string
    // that ends in a zero and lives as long as `names`; the library copies them.
    let (queue, options, collection) = unsafe {
        (
            Owned::of(rd_kafka_queue_new(handle), rd_kafka_queue_destroy),
            Owned::of(
                rd_kafka_AdminOptions_new(handle, rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS),
                rd_kafka_AdminOptions_destroy,
            ),
            Owned::of(
                rd_kafka_TopicCollection_of_topic_names(pointers.as_ptr().cast_mut(), pointers.len()),
                rd_kafka_TopicCollection_destroy,
            ),
        )
    };
    let (Some(queue), Some(options), Some(collection)) = (queue, options, collection) else {
        return Err(KafkaError::AdminOpCreation("there is no memory".into()));
    };
    let (queue, options, collection): (Queue, Options, Collection) = (queue, options, collection);
    let limit_ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1);
    let grace_ms = i32::try_from((limit + GRACE).as_millis()).unwrap_or(i32::MAX);
    // SAFETY: all pointers are of objects that live until the end of this function, made above for this client and, the
    // options, for this operation. No text of an error is asked for, with the length 0 that goes with it. The request
    // copies what it needs of options and collection before it returns. What is polled is ours to destroy.
    let event: Option<Event> = unsafe {
        rd_kafka_AdminOptions_set_request_timeout(options.get(), limit_ms, ptr::null_mut(), 0);
        rd_kafka_DescribeTopics(handle, collection.get(), options.get(), queue.get());
        Owned::of(rd_kafka_queue_poll(queue.get(), grace_ms), rd_kafka_event_destroy)
    };
    let Some(event) = event else {
        return Err(KafkaError::MetadataFetch(Code::OperationTimedOut));
    };
    // SAFETY: the event lives, and is looked at by this thread alone.
    let error = unsafe { rd_kafka_event_error(event.get()) };
    if error != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(KafkaError::MetadataFetch(error.into()));
    }
    described(&event)
}

/// What an event without an error says.
fn described(event: &Event) -> Result<BTreeMap<String, u128>, KafkaError> {
    let mut found = BTreeMap::new();
    // SAFETY: the result is NULL for an event of another kind, which is looked at before it is used. It, the array, and
    // what the array points to live as long as the event, which is borrowed; nothing of it leaves this function. The array
    // has as many descriptions as are said, none of them NULL, each with a name that ends in a zero. The id is NULL or
    // lives like the rest; the error's code is asked for where it is not NULL.
    unsafe {
        let result = rd_kafka_event_DescribeTopics_result(event.get());
        if result.is_null() {
            return Err(KafkaError::MetadataFetch(Code::InvalidArgument));
        }
        let mut count = 0;
        let descriptions = rd_kafka_DescribeTopics_result_topics(result, &mut count);
        for n in 0..count {
            let description = *descriptions.add(n);
            let error = rd_kafka_TopicDescription_error(description);
            if !error.is_null()
                && rd_kafka_error_code(error) != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                continue;
            }
            let name = CStr::from_ptr(rd_kafka_TopicDescription_name(description));
            let id = rd_kafka_TopicDescription_topic_id(description);
            let id = if id.is_null() {
                0
            } else {
                let high = rd_kafka_Uuid_most_significant_bits(id) as u64;
                u128::from(high) << 64 | u128::from(rd_kafka_Uuid_least_significant_bits(id) as u64)
            };
            found.insert(name.to_string_lossy().into_owned(), id);
        }
    }
    Ok(found)
}

/// An object of the C library that is ours alone.
struct Owned<T> {
    object: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

type Queue = Owned<rd_kafka_queue_t>;
type Options = Owned<rd_kafka_AdminOptions_t>;
type Collection = Owned<rd_kafka_TopicCollection_t>;
type Event = Owned<rd_kafka_event_t>;

impl<T> Owned<T> {
    /// Takes what the library has made; `None` if it has made nothing.
    ///
    /// # Safety
    ///
    /// `object` is NULL, or of the kind that `destroy` destroys, and nobody else destroys it.
    unsafe fn of(object: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        NonNull::new(object).map(|object| Self { object, destroy })
    }

    fn get(&self) -> *mut T {
        self.object.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: as whoever made this has promised, and this is called once.
        unsafe { (self.destroy)(self.object.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use dbb_test_services::Kafka;
    use rdkafka::{
        ClientConfig,
        consumer::{BaseConsumer, Consumer},
    };

    fn ask(client: &BaseConsumer, names: &[&str]) -> Result<BTreeMap<String, u128>, KafkaError> {
        let names = names.iter().copied().collect();
        topic_ids(client.client(), &names, Duration::from_secs(5))
    }

    #[test]
    fn a_topic_keeps_its_id_until_it_is_made_again_and_what_is_not_there_has_none() {
        let kafka = Kafka::shared().unwrap();
        let client: BaseConsumer = kafka.config().create().unwrap();
        kafka.create_topic("ids-a", 1).unwrap();
        kafka.create_topic("ids-b", 2).unwrap();
        let names = ["ids-a", "ids-b", "ids-none", "with\0zero"];
        let first = ask(&client, &names).unwrap();
        assert_eq!(first.keys().collect::<Vec<_>>(), ["ids-a", "ids-b"]);
        assert!(first["ids-a"] != 0 && first["ids-a"] != first["ids-b"]);
        for _ in 0..50 {
            assert_eq!(ask(&client, &names).unwrap(), first);
        }
        kafka.delete_topic("ids-a").unwrap();
        kafka.create_topic("ids-a", 1).unwrap();
        let second = ask(&client, &names).unwrap();
        assert!(second["ids-a"] != first["ids-a"] && second["ids-b"] == first["ids-b"]);
        assert!(ask(&client, &[]).unwrap().is_empty());
    }

    #[test]
    fn without_a_broker_the_question_ends_in_time_and_many_at_once_harm_nobody() {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", "127.0.0.1:9")
            .create()
            .unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let names = BTreeSet::from(["a"]);
                    let asked = topic_ids(client.client(), &names, Duration::from_millis(200));
                    assert!(asked.is_err());
                });
            }
        });
    }
}
