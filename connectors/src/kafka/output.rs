//! What a publisher has to publish of an epoch, and whether a marker says that it is there.

use std::io::{self, BufReader, Read};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tidegate_connector_api::StagedOutput;
use tidegate_protocol::{Attempt, Epoch, Error, ErrorContext, Result};

use super::marker::Marker;
use super::outgoing::{StagedMessage, read_next};

/// What a snapshot keeps of a staged file besides the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The transactional id under which it is published, whoever does that.
    pub(super) id: String,
    /// The topic of the marker.
    pub(super) topic: String,
    pub(super) attempt: Attempt,
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
        for piece in pieces {
            let place: Place = serde_json::from_value(piece.staged.place.clone()).context(|| {
                format!("the snapshot names {} as output for Kafka", piece.staged.place)
            })?;
            match all.iter_mut().find(|output| output.place.id == place.id) {
                Some(output) => output.pieces.push(piece),
                None => all.push(Self { place, epoch, is_restored: piece.is_restored, pieces: vec![piece] }),
            }
        }
        Ok(all)
    }

    /// The marker of the output when this many of its messages are published.
    pub(super) fn marker(&self, run: u32, done: u64) -> Marker {
        let messages = self.pieces.iter().map(|piece| piece.staged.records).sum();
        let mut crc32 = crc32fast::Hasher::new();
        for file in self.pieces.iter().filter_map(|piece| piece.staged.file.as_ref()) {
            crc32.update(&file.crc32.to_le_bytes());
            crc32.update(&file.bytes.to_le_bytes());
        }
        Marker { epoch: self.epoch, attempt: self.place.attempt, run, done, messages, crc32: crc32.finalize() }
    }

    /// What is left to be published, by the marker that the brokers have, read after every other producer of the id was fenced.
    ///
    /// # Errors
    /// If the marker is that of another run, or may have expired.
    pub(super) fn left(&self, marker: Option<&Marker>, run: u32, retention: Duration) -> Result<Left> {
        let Place { id, .. } = &self.place;
        let ours = self.marker(run, 0);
        let Some(found) = marker else {
            return if self.is_restored && self.age() > retention { Err(self.unknown(retention)) } else { Ok(Left::From(0)) };
        };
        let is_same = (found.messages, found.crc32) == (ours.messages, ours.crc32);
        if found.epoch == self.epoch && is_same {
            return Ok(if found.done >= found.messages { Left::Nothing } else { Left::From(found.done) });
        }
        let is_newer = found.attempt > ours.attempt;
        // Epochs are published in their order. So what was staged before the marker's epoch is there, if it was staged by what has
        // published the marker, or by an older attempt, whose newest snapshot the newer one has restored.
        if found.epoch > self.epoch && (self.is_restored || is_newer) {
            return Ok(Left::Nothing);
        }
        let is_of_this_run = self.is_restored || found.run == run || found.attempt < ours.attempt;
        if found.epoch < self.epoch && !is_newer && is_of_this_run {
            return Ok(Left::From(0));
        }
        Err(Error::job(format!(
            "another run of the job publishes under the transactional id {id}: epoch {} of its attempt {} is in the topic, and \
             this is epoch {} of attempt {}. Two jobs share a checkpoint directory that was copied, or an older state of it was \
             put back; remove the file job-id from the copy, and start it again",
            found.epoch, found.attempt, self.epoch, ours.attempt
        )))
    }

    fn age(&self) -> Duration {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(self.place.at);
        SystemTime::now().duration_since(at).unwrap_or_default()
    }

    fn unknown(&self, retention: Duration) -> Error {
        let (days, hours) = (retention.as_secs() / 86_400, self.age().as_secs() / 3_600);
        Error::job(format!(
            "it cannot be known whether the output of epoch {} was published under the transactional id {}: it was staged {hours} \
             hours ago, and brokers forget after {days} days what would tell (offsets.retention.minutes). Look into the topic {}; \
             then say in the job which it is, by `.when_unknown(WhenUnknown::Publish)` or `.when_unknown(WhenUnknown::Skip)`",
            self.epoch, self.place.id, self.place.topic
        ))
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

    /// The message with a number, for people.
    pub(super) fn describe(&self, number: u64) -> Option<String> {
        let mut found = None;
        let describe = |_: u64, message: &StagedMessage<'_>| {
            let topic = message.topic.unwrap_or(&self.place.topic);
            let key = message.key.map(|key| format!(" with the key {:?}", String::from_utf8_lossy(key)));
            let (key, bytes) = (key.unwrap_or_default(), message.bytes());
            found = Some(format!("message {number} of the epoch for the topic {topic}{key}, {bytes} bytes"));
            // One is enough.
            Err(Error::internal("found"))
        };
        drop(self.messages(number, describe));
        found
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
            at: now - days_ago * 86_400_000,
        };
        let file = FileRef { path: "1".into(), bytes: 9, crc32: 7 };
        let place = serde_json::to_value(place).unwrap();
        let staged = Staged { slot: Slot(0), epoch: Epoch(10), records: 4, place, file: Some(file) };
        let store = PathBuf::new();
        let pieces = [StagedOutput::new(&staged, is_restored, &store)];
        let outputs = Output::all(Epoch(10), &pieces)?;
        outputs[0].left(marker(outputs[0].marker(RUN, 4)).as_ref(), RUN, WEEK)
    }

    fn at(epoch: u64, attempt: u32, run: u32) -> impl FnOnce(Marker) -> Option<Marker> {
        move |ours| Some(Marker { epoch: Epoch(epoch), attempt: Attempt(attempt), run, crc32: 99, ..ours })
    }

    #[test]
    fn what_a_marker_says_is_not_published_again() {
        for is_restored in [false, true] {
            assert_eq!(left(is_restored, Some, 0).unwrap(), Left::Nothing);
            assert_eq!(left(is_restored, |ours| Some(Marker { run: 6, ..ours }), 0).unwrap(), Left::Nothing);
            assert_eq!(left(is_restored, |ours| Some(Marker { done: 3, ..ours }), 0).unwrap(), Left::From(3));
            assert_eq!(left(is_restored, |_| None, 0).unwrap(), Left::From(0));
            assert_eq!(left(is_restored, at(9, 2, 6), 0).unwrap(), Left::From(0), "of an older attempt");
            assert_eq!(left(is_restored, at(9, 3, RUN), 0).unwrap(), Left::From(0), "of this run");
            assert_eq!(left(is_restored, at(12, 4, 6), 0).unwrap(), Left::Nothing, "a newer attempt has gone on");
        }
        assert_eq!(left(true, at(12, 3, 6), 0).unwrap(), Left::Nothing, "an older savepoint of what went on");
        assert_eq!(left(true, at(9, 3, 6), 0).unwrap(), Left::From(0), "a restart");
    }

    #[test]
    fn another_run_under_the_same_id_is_noticed() {
        for (name, marker) in [
            ("a copy that is ahead", at(12, 3, 6)),
            ("a copy at the same epoch", at(10, 3, 6)),
            ("a copy that is behind", at(9, 3, 6)),
            ("a copy that was started more often", at(9, 4, 6)),
            ("an older state of this directory was put back", at(12, 2, 6)),
        ] {
            let error = left(false, marker, 0).unwrap_err().to_string();
            assert!(error.contains("another run of the job publishes"), "{name}: {error}");
        }
        assert!(left(true, at(10, 3, 6), 0).is_err(), "the epoch is there with another content");
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
