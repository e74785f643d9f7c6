//! Reads all partitions of a topic to their ends, by batches from one queue of librdkafka: what a bare loop reads with.

use crate::Result;
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::ffi::CString;
use std::ptr;
use std::slice;
use std::time::Duration;

/// Those of the job's source: what is compared is not how the client is set up.
const SETTINGS: [(&str, &str); 6] = [
    ("isolation.level", "read_committed"),
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.wait.max.ms", "100"),
    ("enable.auto.commit", "false"),
    ("enable.partition.eof", "true"),
];
const BATCH: usize = 1_024;
const PATIENCE: Duration = Duration::from_secs(30);
/// A batch is given when it is full, or after this time.
const WAIT_MS: i32 = 100;

/// The consumer of one topic.
pub struct Consumer {
    client: BaseConsumer,
    topic: *mut sys::rd_kafka_topic_t,
    name: String,
    queue: *mut sys::rd_kafka_queue_t,
    batch: Vec<*mut sys::rd_kafka_message_t>,
    partitions: Vec<Partition>,
}

struct Partition {
    /// The offset behind the last message that was read.
    next: i64,
    ended: bool,
}

impl Consumer {
    /// Begins to fetch all partitions from their beginnings.
    pub fn open(bootstrap: &str, topic: &str) -> Result<Consumer> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap);
        SETTINGS.iter().for_each(|(key, value)| {
            config.set(*key, *value);
        });
        let client: BaseConsumer = config.create().map_err(|e| e.to_string())?;
        let known = client.fetch_metadata(Some(topic), PATIENCE).map_err(|e| format!("{topic}: {e}"))?;
        let count = known.topics().first().map_or(0, |found| found.partitions().len());
        if count == 0 {
            return Err(format!("there is no topic {topic}"));
        }
        let name = CString::new(topic).map_err(|e| e.to_string())?;
        // SAFETY: the client is alive, and outlives topic and queue.
        let (native, queue) = unsafe {
            let native_client = client.client().native_ptr();
            let native = sys::rd_kafka_topic_new(native_client, name.as_ptr(), ptr::null_mut());
            (native, sys::rd_kafka_queue_new(native_client))
        };
        for partition in 0..count as i32 {
            // SAFETY: both pointers are librdkafka's own.
            let error = unsafe { sys::rd_kafka_consume_start_queue(native, partition, 0, queue) };
            if error != 0 {
                return Err(format!("cannot read partition {partition} of {topic}"));
            }
        }
        let partitions = (0..count).map(|_| Partition { next: 0, ended: false }).collect();
        Ok(Consumer {
            client,
            topic: native,
            name: topic.into(),
            queue,
            batch: Vec::with_capacity(BATCH),
            partitions,
        })
    }

    /// The number of partitions.
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// True if all partitions were read to their ends.
    pub fn ended(&self) -> bool {
        self.partitions.iter().all(|partition| partition.ended)
    }

    /// The numbers of the partitions that were not.
    pub fn unfinished(&self) -> impl Iterator<Item = usize> {
        self.partitions.iter().enumerate().filter(|(_, p)| !p.ended).map(|(number, _)| number)
    }

    /// Gives the messages of a batch to `each`: partition, offset, value.
    pub fn batch(&mut self, mut each: impl FnMut(usize, u64, &[u8]) -> Result<()>) -> Result<()> {
        // SAFETY: the batch has room for so many pointers, and librdkafka says how many it has written.
        unsafe {
            let count =
                sys::rd_kafka_consume_batch_queue(self.queue, WAIT_MS, self.batch.as_mut_ptr(), BATCH);
            self.batch.set_len(usize::try_from(count).unwrap_or(0));
        }
        for message in self.batch.drain(..) {
            // SAFETY: librdkafka has given it, and it is destroyed below.
            let raw = unsafe { &*message };
            let partition = &mut self.partitions[raw.partition as usize];
            let done = match Code::from(raw.err) {
                Code::NoError => {
                    partition.next = raw.offset + 1;
                    let empty = raw.payload.is_null();
                    // SAFETY: pointer and length are those of the message's value.
                    let value = unsafe { slice::from_raw_parts(raw.payload.cast::<u8>(), raw.len) };
                    each(raw.partition as usize, raw.offset as u64, if empty { &[] } else { value })
                }
                Code::PartitionEOF => {
                    (partition.next, partition.ended) = (raw.offset, true);
                    Ok(())
                }
                code => Err(format!("cannot read partition {} of {}: {code}", raw.partition, self.name)),
            };
            // SAFETY: it is destroyed once.
            unsafe { sys::rd_kafka_message_destroy(message) };
            done?;
        }
        Ok(())
    }

    /// The offsets that were read up to, for a commit.
    pub fn offsets(&self) -> Result<TopicPartitionList> {
        let mut offsets = TopicPartitionList::new();
        for (number, partition) in self.partitions.iter().enumerate() {
            offsets
                .add_partition_offset(&self.name, number as i32, Offset::Offset(partition.next))
                .map_err(|e| e.to_string())?;
        }
        Ok(offsets)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // SAFETY: both belong to this, and the client is dropped later.
        unsafe {
            for number in 0..self.partitions.len() as i32 {
                sys::rd_kafka_consume_stop(self.topic, number);
            }
            sys::rd_kafka_topic_destroy(self.topic);
            sys::rd_kafka_queue_destroy(self.queue);
        }
        drop(self.client.poll(Duration::ZERO));
    }
}
