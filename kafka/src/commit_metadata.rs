//! Commit metadata: the few words that a group keeps beside each offset.
//!
//! The binding of librdkafka that we use has a call for them, which panics where another program has left bytes that are
//! no text.
#![allow(unsafe_code)]

use rdkafka::TopicPartitionList;
use std::slice;

/// What stands beside each offset of `list`, in its order; empty where there is nothing.
pub fn commit_metadata(list: &TopicPartitionList) -> Vec<Vec<u8>> {
    // SAFETY: the pointer is that of a list that is borrowed until the end of this function; it has `cnt` elements, one
    // after the other, and nobody changes them meanwhile. The metadata of an element are NULL, or as many bytes as are
    // said; they are copied.
    unsafe {
        let list = &*list.ptr();
        let count = usize::try_from(list.cnt).unwrap_or(0);
        let of = |n: usize| {
            let element = &*list.elems.add(n);
            if element.metadata.is_null() || element.metadata_size == 0 {
                return Vec::new();
            }
            slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size).to_vec()
        };
        (0..count).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_put_beside_an_offset_is_read_and_where_nothing_was_put_there_is_nothing() {
        let mut list = TopicPartitionList::new();
        assert!(commit_metadata(&list).is_empty());
        for partition in 0..3 {
            list.add_partition("t", partition);
        }
        list.find_partition("t", 1).unwrap().set_metadata("words é");
        list.find_partition("t", 2).unwrap().set_metadata("");
        assert_eq!(
            commit_metadata(&list),
            [b"".to_vec(), "words é".into(), Vec::new()]
        );
    }
}
