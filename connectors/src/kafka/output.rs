//! What a publisher has to publish of an epoch, and whether a marker says that it is there.

use std::io::{self, BufReader, Read};
use std::time::{Duration, SystemTime};

use rdkafka::error::RDKafkaErrorCode as Code;
use serde::{Deserialize, Serialize};
use tidegate_connector_api::StagedOutput;
use tidegate_protocol::{Attempt, Epoch, Error, ErrorContext, Result};

use super::marker::Marker;
use super::outgoing::{StagedMessage, read_next};

/// What a snapshot keeps of output that was sent before: it is not published.
pub(super) const SENT: &str = "sent";

/// What a snapshot keeps of a staged file besides the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The transactional id under which it is published, whoever does that.
    pub(super) id: String,
    /// The topic of the marker.
    pub(super) topic: String,
    pub(super) attempt: Attempt,
    /// A number that the writer has drawn.
    pub(super) run: u32,
    /// When it was staged, in milliseconds since the Unix epoch.
    pub(super) at: u64,
}

/// The output of an epoch under one transactional id: a piece, or several if checkpoints before it were aborted.
pub(super) struct Output<'a> {
    pub(super) place: Place,
    pub(super) epoch: Epoch,
    pub(super) is_restored: bool,
    pieces: Vec<&'a StagedOutput<'a>>,
}

/// What is left to do of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// The messages from this number on.
    From(u64),
}

impl<'a> Output<'a> {
    /// The outputs of an epoch, one for each transactional id.
    pub(super) fn all(epoch: Epoch, pieces: &'a [StagedOutput<'a>]) -> Result<Vec<Self>> {
        let mut all: Vec<Self> = Vec::new();
        for piece in pieces.iter().filter(|piece| piece.staged.place != SENT) {
            let place: Place = serde_json::from_value(piece.staged.place.clone())
                .context(|| format!("the snapshot names {} as output for Kafka", piece.staged.place))?;
            match all.iter_mut().find(|output| output.place.id == place.id) {
                Some(output) => output.pieces.push(piece),
                None => all.push(Self { place, epoch, is_restored: piece.is_restored, pieces: vec![piece] }),
            }
        }
        Ok(all)
    }

    /// The marker of the output when this many of its messages are published.
    pub(super) fn marker(&self, done: u64) -> Marker {
        let messages = self.pieces.iter().map(|piece| piece.staged.records).sum();
        let mut crc32 = crc32fast::Hasher::new();
        for file in self.pieces.iter().filter_map(|piece| piece.staged.file.as_ref()) {
            crc32.update(&file.crc32.to_le_bytes());
            crc32.update(&file.bytes.to_le_bytes());
        }
        let (Place { attempt, run, .. }, crc32) = (&self.place, crc32.finalize());
        let (attempt, run) = (*attempt, *run);
        Marker { epoch: self.epoch, attempt, run, done, messages, crc32, before: Vec::new() }
    }

    /// What is left to be published, by the marker that the brokers have, read after every other producer of the id was fenced.
    /// That of this run's own output is one that its publisher knows.
    ///
    /// # Errors
    /// If it cannot be told.
    pub(super) fn left(&self, marker: Option<&Marker>, retention: Duration) -> Result<Left> {
        let ours = self.marker(0);
        match marker {
            Some(found) if found.is_of_same(&ours) => {
                Ok(if found.done >= found.messages { Left::Nothing } else { Left::From(found.done) })
            }
            _ if !self.is_restored => Ok(Left::From(0)),
            None if self.age() <= retention => Ok(Left::From(0)),
            None => Err(self.unknown(retention)),
            Some(found) => self.left_of_restored(found, &ours),
        }
    }

    /// The same for output that an earlier run has staged, by a marker that is another output's. A run publishes its epochs in
    /// their order, and a newer one of the same job publishes first what the older one has left.
    fn left_of_restored(&self, found: &Marker, ours: &Marker) -> Result<Left> {
        match found.last_of(ours.run) {
            Some(last) if last > self.epoch || (last == self.epoch && found.run != ours.run) => {
                Ok(Left::Nothing)
            }
            Some(last) if last < self.epoch && found.run == ours.run => Ok(Left::From(0)),
            // The first output of a run.
            None if found.epoch < self.epoch && found.attempt < ours.attempt => Ok(Left::From(0)),
            _ => Err(Error::job(format!(
                "the snapshot has output of epoch {} of attempt {}, and what is published under the transactional id {} comes from \
                 another run: epoch {} of attempt {}. Two jobs had copies of one checkpoint directory, or an older state of it was \
                 put back. If the other job goes on, leave this one: nothing is missing without it. Else: {}",
                self.epoch,
                ours.attempt,
                self.place.id,
                found.epoch,
                found.attempt,
                self.look()
            ))),
        }
    }

    fn age(&self) -> Duration {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(self.place.at);
        SystemTime::now().duration_since(at).unwrap_or_default()
    }

    fn unknown(&self, retention: Duration) -> Error {
        let (days, hours) = (retention.as_secs() / 86_400, self.age().as_secs() / 3_600);
        Error::job(format!(
            "it cannot be known whether the output of epoch {} was published under the transactional id {}: it was staged {hours} \
             hours ago, and brokers forget after {days} days what would show it (offsets.retention.minutes). {}",
            self.epoch,
            self.place.id,
            self.look()
        ))
    }

    /// What to do where only a person can decide.
    fn look(&self) -> String {
        format!(
            "See whether its {} messages are in the topic {}; then say in the job which it is, by \
             .when_unknown(WhenUnknown::Publish) or .when_unknown(WhenUnknown::Skip) on the sink",
            self.marker(0).messages,
            self.place.topic
        )
    }

    /// The bytes of the staged files.
    pub(super) fn bytes(&self) -> u64 {
        self.pieces.iter().filter_map(|piece| piece.staged.file.as_ref()).map(|file| file.bytes).sum()
    }

    /// Reads the staged files to their ends, where they are checked.
    pub(super) fn check(&self) -> Result<()> {
        for piece in &self.pieces {
            io::copy(&mut piece.open()?, &mut io::sink()).context(|| "read a staged file")?;
        }
        Ok(())
    }

    /// A message for people, that was refused: the one with a number. Where brokers refuse a batch for one of its messages and do not say
    /// which, the one that is most likely to be meant.
    pub(super) fn describe(&self, number: u64, code: Code) -> Option<String> {
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        let suspicion = |this: u64, message: &StagedMessage<'_>| match code {
            code if is_too_large(code) => Some(message.bytes() as u64),
            Code::InvalidTimestamp => Some(message.timestamp.unwrap_or(now).abs_diff(now)),
            _ => (this == number).then_some(0),
        };
        let mut found: Option<(u64, String)> = None;
        let describe = |this: u64, message: &StagedMessage<'_>| {
            let Some(suspicion) = suspicion(this, message) else { return Ok(()) };
            if found.as_ref().is_none_or(|(most, _)| suspicion > *most) {
                let (topic, bytes) = (message.topic.unwrap_or(&self.place.topic), message.bytes());
                let key = message.key.map(|key| format!(" with the key {:?}", String::from_utf8_lossy(key)));
                let key = key.unwrap_or_default();
                let text = format!("message {this} of the epoch for the topic {topic}{key}, {bytes} bytes");
                found = Some((suspicion, text));
            }
            Ok::<(), Error>(())
        };
        drop(self.messages(0, describe));
        found.map(|(_, text)| text)
    }

    /// Calls `each` with the messages from a number on, and their numbers, until it fails.
    pub(super) fn messages<E: From<Error>>(
        &self,
        from: u64,
        mut each: impl FnMut(u64, &StagedMessage<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let (mut number, mut buffer) = (0, Vec::new());
        for piece in &self.pieces {
            let mut file: BufReader<Box<dyn Read + Send>> = BufReader::with_capacity(64 << 10, piece.open()?);
            while read_next(&mut file, &mut buffer).context(|| "read a staged file")? {
                if number >= from {
                    let message = StagedMessage::parse(&buffer).context(|| "read a staged file")?;
                    each(number, &message)?;
                }
                number += 1;
            }
        }
        Ok(())
    }
}

fn is_too_large(code: Code) -> bool {
    matches!(code, Code::MessageSizeTooLarge | Code::InvalidMessageSize)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tidegate_connector_api::{FileRef, Slot, Staged};

    use super::*;

    const WEEK: Duration = Duration::from_secs(7 * 86_400);
    const RUN: u32 = 5;

    /// What is left of epoch 10 of attempt 3, by a marker.
    fn left(is_restored: bool, marker: impl FnOnce(Marker) -> Option<Marker>, days_ago: u64) -> Result<Left> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
        let place = Place {
            id: "tidegate.x.0".into(),
            topic: "out".into(),
            attempt: Attempt(3),
            run: RUN,
            at: now - days_ago * 86_400_000,
        };
        let file = FileRef { path: "1".into(), bytes: 9, crc32: 7 };
        let place = serde_json::to_value(place).unwrap();
        let staged = Staged { slot: Slot(0), epoch: Epoch(10), records: 4, place, file: Some(file) };
        let store = PathBuf::new();
        let pieces = [StagedOutput::new(&staged, is_restored, &store)];
        let outputs = Output::all(Epoch(10), &pieces)?;
        outputs[0].left(marker(outputs[0].marker(4)).as_ref(), WEEK)
    }

    fn at(epoch: u64, attempt: u32, run: u32) -> impl FnOnce(Marker) -> Option<Marker> {
        move |ours| Some(Marker { epoch: Epoch(epoch), attempt: Attempt(attempt), run, crc32: 99, ..ours })
    }

    /// A marker of run 6, which has come after this one and knows how far it came.
    fn behind(epoch: u64, attempt: u32, last: u64) -> impl FnOnce(Marker) -> Option<Marker> {
        move |ours| at(epoch, attempt, 6)(Marker { before: vec![(RUN, Epoch(last))], ..ours })
    }

    #[test]
    fn what_a_marker_says_is_not_published_again() {
        for is_restored in [false, true] {
            assert_eq!(left(is_restored, Some, 0).unwrap(), Left::Nothing);
            assert_eq!(left(is_restored, |ours| Some(Marker { done: 3, ..ours }), 0).unwrap(), Left::From(3));
            assert_eq!(left(is_restored, |_| None, 0).unwrap(), Left::From(0));
            assert_eq!(left(is_restored, at(9, 2, 6), 0).unwrap(), Left::From(0), "of an older attempt");
            assert_eq!(left(is_restored, at(9, 3, RUN), 0).unwrap(), Left::From(0), "of this run");
        }
        assert_eq!(
            left(true, at(12, 3, RUN), 0).unwrap(),
            Left::Nothing,
            "an older savepoint of what went on"
        );
        assert_eq!(left(true, behind(40, 4, 12), 0).unwrap(), Left::Nothing, "the same, after a restart");
        assert_eq!(
            left(true, behind(40, 4, 10), 0).unwrap(),
            Left::Nothing,
            "the last epoch before a restart"
        );
    }

    #[test]
    fn output_of_another_history_is_not_guessed() {
        for (name, marker) in [
            ("a copy is at the same epoch", at(10, 3, 6)),
            ("a copy is ahead", at(12, 3, 6)),
            ("a copy was started more often", at(12, 4, 6)),
            ("a copy was started more often, and is behind", at(9, 4, 6)),
            ("an older attempt cannot be ahead", at(12, 2, 6)),
        ] {
            let error = left(true, marker, 0).unwrap_err().to_string();
            assert!(error.contains("comes from another run"), "{name}: {error}");
        }
        assert!(left(true, at(10, 3, RUN), 0).is_err(), "the epoch is there with another content");
        assert!(left(true, behind(40, 4, 9), 0).is_err(), "the job went on without this epoch");
    }

    #[test]
    fn a_marker_that_may_have_expired_is_no_answer() {
        let error = left(true, |_| None, 8).unwrap_err().to_string();
        assert!(error.contains("192 hours ago") && error.contains("after 7 days"), "{error}");
        assert_eq!(left(true, |_| None, 6).unwrap(), Left::From(0));
        assert_eq!(left(false, |_| None, 8).unwrap(), Left::From(0), "this run has staged it");
        assert_eq!(left(true, Some, 8).unwrap(), Left::Nothing);
    }
}
