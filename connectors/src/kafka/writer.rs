//! Writes records as messages into staged files.

use std::time::SystemTime;

use tidegate_connector_api::{SinkPlace, StagedWriter, Staging, Writer};
use tidegate_protocol::{Epoch, Error, ErrorContext, Result};

use super::outgoing::OutgoingMessage;
use super::output::Place;
use super::record_format::RecordFormat;

/// The writer of one worker.
pub(super) struct TopicWriter<F> {
    format: F,
    place: Place,
    message: OutgoingMessage,
    staged: StagedWriter,
}

impl<F> TopicWriter<F> {
    pub(super) fn new(format: F, id: String, topic: String, place: &SinkPlace) -> Self {
        let staged = place.staged_files();
        let run = getrandom::u32().unwrap_or_else(|_| std::process::id());
        let place = Place { id, topic, attempt: place.attempt, run, at: 0 };
        Self { format, place, message: OutgoingMessage::default(), staged }
    }
}

impl<T, F: RecordFormat<T>> Writer<T> for TopicWriter<F> {
    #[inline]
    fn write(&mut self, record: &T, event_time: Option<i64>) -> Result<()> {
        let Self { format, message, staged, place } = self;
        self::format(format, record, event_time, message, &place.topic)?;
        staged.record(|file| {
            message
                .append_to(file)
                .map_err(|error| Error::job(format!("a message for {}: {error}", place.topic)))
        })
    }

    fn stage(&mut self, _: Epoch) -> Result<Option<Staging>> {
        let Some(file) = self.staged.end_epoch()? else { return Ok(None) };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let place = Place { at: now.as_millis() as u64, ..self.place.clone() };
        let place = serde_json::to_value(place).context(|| "stage messages")?;
        Ok(Some(Staging::file(file, place)))
    }
}

/// Fills in a message from a record.
#[inline]
pub(super) fn format<T, F: RecordFormat<T>>(
    format: &mut F,
    record: &T,
    event_time: Option<i64>,
    message: &mut OutgoingMessage,
    topic: &str,
) -> Result<()> {
    message.clear(event_time);
    format.write(record, message).and_then(|()| message.check()).map_err(|error| {
        Error::job(format!(
            "a record of the type {} cannot be written as a message to the topic {topic}: {error}. Check such records in a try_map \
             in front of the sink: what it refuses goes where malformed records go",
            std::any::type_name::<T>()
        ))
    })
}
