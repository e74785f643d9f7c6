//! Writes with a transaction a second, which commits the offsets of what was read.

use rdkafka::ClientConfig;
use rdkafka::bindings as sys;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::ffi::CString;
use std::time::{Duration, Instant};
use tidegate_bench::Result;
use tidegate_bench::consumer::Consumer;

/// Those of the job's sink.
const SETTINGS: [(&str, &str); 5] = [
    ("partitioner", "murmur2_random"),
    ("linger.ms", "5"),
    ("batch.num.messages", "100000"),
    ("queue.buffering.max.kbytes", "131072"),
    // The commit fails if a message was not taken.
    ("delivery.report.only.error", "true"),
];
const EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);
const GROUP: &str = "bare-kafka";

/// A producer with an open transaction.
pub(crate) struct Producer {
    client: BaseProducer,
    group: CString,
    committed: Instant,
}

impl Producer {
    /// Makes the producer and begins a transaction.
    pub(crate) fn open(bootstrap: &str, id: &str) -> Result<Producer> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("transactional.id", format!("{GROUP}.{id}"));
        SETTINGS.iter().for_each(|(key, value)| {
            config.set(*key, *value);
        });
        let client: BaseProducer = config.create().map_err(|e| e.to_string())?;
        client.init_transactions(PATIENCE).map_err(|e| e.to_string())?;
        client.begin_transaction().map_err(|e| e.to_string())?;
        let group = CString::new(GROUP).map_err(|e| e.to_string())?;
        Ok(Producer { client, group, committed: Instant::now() })
    }

    /// Sends a message.
    pub(crate) fn send(&self, topic: &str, key: Option<&[u8]>, value: &[u8]) -> Result<()> {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).payload(value);
        record.key = key;
        loop {
            match self.client.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), again)) => {
                    record = again;
                    self.client.poll(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(format!("{topic}: {error}")),
            }
        }
    }

    /// Commits if the last commit was a second ago, and begins the next transaction.
    pub(crate) fn commit_if_due(&mut self, consumer: &Consumer) -> Result<()> {
        if self.committed.elapsed() < EVERY {
            return Ok(());
        }
        self.commit(consumer)?;
        self.client.begin_transaction().map_err(|e| e.to_string())
    }

    /// Commits what was sent with the offsets of what was read.
    pub(crate) fn commit(&mut self, consumer: &Consumer) -> Result<()> {
        self.committed = Instant::now();
        let offsets = consumer.offsets()?;
        // SAFETY: client, offsets and name live until the calls are over; group and error are destroyed once.
        let sent = unsafe {
            let group = sys::rd_kafka_consumer_group_metadata_new(self.group.as_ptr());
            let client = self.client.client().native_ptr();
            let error = sys::rd_kafka_send_offsets_to_transaction(client, offsets.ptr(), group, -1);
            sys::rd_kafka_consumer_group_metadata_destroy(group);
            let sent = error.is_null()
                || sys::rd_kafka_error_code(error) == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            if !error.is_null() {
                sys::rd_kafka_error_destroy(error);
            }
            sent
        };
        if !sent {
            return Err("the offsets cannot be committed".into());
        }
        self.flush()?;
        self.client.commit_transaction(PATIENCE).map_err(|e| e.to_string())
    }

    /// Waits until the brokers have all messages. That of `rdkafka` sleeps for a tenth of a second if they have not yet.
    fn flush(&self) -> Result<()> {
        // SAFETY: the client is alive.
        let code = Code::from(unsafe {
            sys::rd_kafka_flush(self.client.client().native_ptr(), PATIENCE.as_millis() as i32)
        });
        if code == Code::NoError { Ok(()) } else { Err(format!("messages are not taken: {code}")) }
    }
}
