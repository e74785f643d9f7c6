//! The files that one worker reads.

use serde::de::DeserializeOwned;
use tidegate_connector_api::{PartitionStatus, Polled, Position, SourceReader};
use tidegate_protocol::Result;

use super::FileLogSource;
use super::partition::JsonPartition;

/// The reader of one worker.
pub(super) struct JsonReader<T> {
    log: FileLogSource,
    partitions: Vec<JsonPartition<T>>,
}

impl<T> JsonReader<T> {
    pub(super) fn new(log: FileLogSource) -> Self {
        Self { log, partitions: Vec::new() }
    }
}

impl<T: DeserializeOwned> SourceReader<T> for JsonReader<T> {
    fn open(&mut self, partition: &str, position: Option<&Position>) -> Result<()> {
        let lines = self.log.open(partition, position)?;
        self.partitions.push(JsonPartition::new(lines, self.log.followed));
        Ok(())
    }

    fn poll(&mut self, partition: usize, out: &mut Polled<T>, budget: usize) -> Result<PartitionStatus> {
        self.partitions[partition].poll(out, budget)
    }

    fn position(&self, partition: usize) -> Position {
        self.partitions[partition].position()
    }
}
