//! The partitions that one worker reads, over one connection to each broker.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;
use tidegate_connector_api::{PartitionStatus, Polled, Position, SourceReader};
use tidegate_protocol::{Error, Result};
use tracing::warn;

use super::client::{UNKNOWN, is_permanent, is_unknown, remedy};
use super::consumer::{Consumer, Fetched, PartitionQueue, Taken};
use super::format::{MessageFormat, ReadError};
use super::names::{PartitionName, TopicPosition};

/// How often it is looked whether brokers refuse the client.
const CHECK_EVERY: Duration = Duration::from_millis(100);
/// After what time the brokers are asked again for a partition that they did not know.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How often it is asked whether topics are there: librdkafka does not report that. It blocks for a moment, and for two seconds while no
/// broker answers. A source that lives with deleted topics always asks; another one while a partition has no broker that answers.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// How much of a malformed value is kept.
const KEPT: usize = 4 << 10;

/// The reader of one worker.
pub(super) struct TopicReader<F> {
    // The queues go before their client.
    partitions: Vec<Partition>,
    consumer: Rc<Consumer>,
    format: F,
    is_bounded: bool,
    /// Whether a partition whose topic is deleted has ended; otherwise the job ends.
    may_go: bool,
    deletions: Deletions,
    /// How many partitions each topic had when the client last asked, and when that was.
    counts: BTreeMap<String, (Option<usize>, Instant)>,
    /// Whether the brokers have insisted that there is no such topic, so that they have not just started.
    are_brokers_ready: bool,
    checked: Option<Instant>,
}

/// Which partitions the brokers did not list when they were asked last, and when that was. A broker that has just started may not know
/// all of them: they count as deleted when they are not listed twice.
struct Deletions {
    asked: Instant,
    missing: BTreeSet<(String, i32)>,
    deleted: BTreeSet<(String, i32)>,
}

enum Partition {
    Open(OpenPartition),
    /// Its topic was deleted, and the source lives with that.
    Deleted,
}

struct OpenPartition {
    queue: PartitionQueue,
    topic: String,
    number: i32,
    /// The offset behind the last message that was polled.
    next: i64,
    /// For a bounded source, where the partition ends; known from the first poll on.
    end: Option<i64>,
    /// True if everything was polled that there was when librdkafka last looked.
    is_at_end: bool,
    has_ended: bool,
    /// When the brokers are asked whether the position is there, which a fetch has put in doubt.
    doubt: Option<Instant>,
}

impl<F: MessageFormat> TopicReader<F> {
    pub(super) fn new(consumer: Consumer, format: F, is_bounded: bool, may_go: bool) -> Self {
        Self {
            partitions: Vec::new(),
            consumer: Rc::new(consumer),
            format,
            is_bounded,
            may_go,
            deletions: Deletions {
                asked: Instant::now(),
                missing: BTreeSet::new(),
                deleted: BTreeSet::new(),
            },
            counts: BTreeMap::new(),
            are_brokers_ready: false,
            checked: None,
        }
    }

    /// Whether there is a partition; has the client know one that was added: by itself it asks twice a minute.
    fn knows(&mut self, name: PartitionName<'_>) -> Result<bool> {
        if let Some((count, asked)) = self.counts.get(name.topic)
            && (is_among(name.number, *count) || asked.elapsed() < ASK_AGAIN)
        {
            return Ok(is_among(name.number, *count));
        }
        let count = self.count(name.topic)?;
        self.counts.insert(name.topic.to_owned(), (count, Instant::now()));
        Ok(is_among(name.number, count))
    }

    /// The number of a topic's partitions. That there is none counts at once when the brokers have insisted on that of another one: a job
    /// may have to find out about any number of topics that were deleted while it was away.
    fn count(&mut self, topic: &str) -> Result<Option<usize>> {
        if self.are_brokers_ready
            && let Ok(count) = self.consumer.partitions_now(topic)
        {
            return Ok(count);
        }
        let count = self.consumer.partitions(topic)?;
        self.are_brokers_ready |= count.is_none();
        Ok(count)
    }

    /// Where to read a partition from; None if there is nothing to read any more.
    fn first(&mut self, name: PartitionName<'_>, position: Option<&Position>) -> Result<Option<Option<i64>>> {
        match position.map(|position| name.position(position)).transpose()? {
            Some(TopicPosition::Deleted) => {
                // If it is there, it is another one.
                let count = self.consumer.partitions_now(name.topic).ok().flatten();
                Ok(is_among(name.number, count).then_some(None))
            }
            Some(TopicPosition::Offset(offset)) if !self.knows(name)? && self.may_go => {
                warn!(target: "kafka", "the topic {} was deleted; the job had read {name} up to offset {offset}", name.topic);
                Ok(None)
            }
            Some(TopicPosition::Offset(offset)) => Ok(Some(Some(offset))),
            None if !self.knows(name)? && self.may_go => {
                warn!(target: "kafka", "the topic {} was deleted before {name} was read", name.topic);
                Ok(None)
            }
            None => Ok(Some(None)),
        }
    }

    fn look_for_deletions(&mut self) {
        let deletions = &mut self.deletions;
        if deletions.asked.elapsed() <= LOOK_EVERY {
            return;
        }
        deletions.asked = Instant::now();
        let Ok(listed) = self.consumer.topics_now() else { return };
        let open = self.partitions.iter().filter_map(|partition| match partition {
            Partition::Open(open) if !is_among(open.number, listed.get(&open.topic).copied()) => {
                Some((open.topic.clone(), open.number))
            }
            _ => None,
        });
        let missing = open.collect();
        // The list leaves out what the job's user may not see; a question for one topic is answered with that.
        let is_deleted = |(topic, number): &&(String, i32)| {
            self.consumer.partitions_now(topic).is_ok_and(|count| !is_among(*number, count))
        };
        deletions.deleted = deletions.missing.intersection(&missing).filter(is_deleted).cloned().collect();
        deletions.missing = missing;
    }

    fn check_is_let_in(&mut self) -> Result<()> {
        if self.checked.is_none_or(|checked| checked.elapsed() > CHECK_EVERY) {
            self.checked = Some(Instant::now());
            self.consumer.check_is_let_in(UNKNOWN)?;
        }
        Ok(())
    }
}

impl<F: MessageFormat> SourceReader<F::Item> for TopicReader<F> {
    fn open(&mut self, partition: &str, position: Option<&Position>) -> Result<()> {
        let name = PartitionName::parse(partition)?;
        let Some(offset) = self.first(name, position)? else {
            self.partitions.push(Partition::Deleted);
            return Ok(());
        };
        // A bounded source has to know the end, and an old position may be in front of what is left.
        let (first, end) = match (offset, self.is_bounded) {
            (Some(offset), false) => (offset, None),
            _ => {
                let (first, end) = self.consumer.ends(name.topic, name.number)?;
                (offset.unwrap_or(first), self.is_bounded.then_some(end))
            }
        };
        let queue = PartitionQueue::open(&self.consumer, name.topic, name.number, first)?;
        self.partitions.push(Partition::Open(OpenPartition {
            queue,
            topic: name.topic.to_owned(),
            number: name.number,
            next: first,
            end,
            is_at_end: false,
            has_ended: end.is_some_and(|end| first >= end),
            doubt: None,
        }));
        Ok(())
    }

    fn poll(
        &mut self,
        partition: usize,
        out: &mut Polled<F::Item>,
        budget: usize,
    ) -> Result<PartitionStatus> {
        self.check_is_let_in()?;
        let Partition::Open(open) = &mut self.partitions[partition] else {
            return Ok(PartitionStatus::Ended);
        };
        let polled = open.poll(&self.consumer, &mut self.format, out, budget);
        if self.may_go || matches!(polled, Ok(PartitionStatus::Unavailable)) {
            self.look_for_deletions();
        }
        let Partition::Open(open) = &self.partitions[partition] else { return polled };
        let is_deleted = || self.deletions.deleted.contains(&(open.topic.clone(), open.number));
        if matches!(polled, Ok(PartitionStatus::More)) || self.deletions.deleted.is_empty() || !is_deleted() {
            return polled;
        }
        if !self.may_go {
            return Err(open.gone());
        }
        let (topic, next) = (&open.topic, open.next);
        warn!(target: "kafka", "the topic {topic} was deleted: {open} has ended, read up to offset {next}");
        self.partitions[partition] = Partition::Deleted;
        Ok(PartitionStatus::Ended)
    }

    fn position(&self, partition: usize) -> Position {
        match &self.partitions[partition] {
            Partition::Open(open) => TopicPosition::Offset(open.next).into(),
            Partition::Deleted => TopicPosition::Deleted.into(),
        }
    }
}

/// Whether a partition is one of so many; None if there is no such topic.
fn is_among(number: i32, count: Option<usize>) -> bool {
    count.is_some_and(|count| count > number as usize)
}

impl OpenPartition {
    fn poll<F: MessageFormat>(
        &mut self,
        consumer: &Consumer,
        format: &mut F,
        out: &mut Polled<F::Item>,
        budget: usize,
    ) -> Result<PartitionStatus> {
        if self.has_ended {
            return Ok(PartitionStatus::Ended);
        }
        if self.doubt.is_some() && !self.is_position_there(consumer)? {
            return Ok(PartitionStatus::Unavailable);
        }
        let (next, end, mut failed) = (&mut self.next, self.end.unwrap_or(i64::MAX), None);
        let fetched = self.queue.fetch(budget, |message| {
            let offset = message.offset();
            if offset < *next {
                return Taken::Yes;
            }
            if offset >= end {
                // It was written after the start of a bounded source. In front of the end may be markers of transactions, which
                // are no messages.
                *next = end;
                return Taken::Yes;
            }
            match format.read(&message) {
                Ok(record) => out.record(offset as u64, record),
                Err(ReadError::Malformed(error)) => {
                    let value = message.value().unwrap_or_default();
                    out.malformed(offset as u64, error, &value[..value.len().min(KEPT)]);
                }
                Err(ReadError::NotYet) => return Taken::NotYet,
                Err(ReadError::Failed(error)) => {
                    failed = Some((offset, error));
                    return Taken::NotYet;
                }
            }
            *next = offset + 1;
            out.took(message.value().map_or(0, <[u8]>::len) + message.key().map_or(0, <[u8]>::len));
            Taken::Yes
        });
        if let Some((offset, error)) = failed {
            return Err(error.context(format!("the message at offset {offset} of {self} cannot be read")));
        }
        let mut status = match fetched {
            Fetched { is_waiting: true, .. } => {
                self.is_at_end = false;
                PartitionStatus::Pending
            }
            Fetched { messages: 0, end: None, .. } => self.nothing(consumer),
            Fetched { end, .. } => self.met(end, consumer),
        };
        if let Some((code, text)) = fetched.error {
            self.failed(code, &text)?;
            if fetched.end.is_none() {
                status = PartitionStatus::Pending;
            }
        }
        self.has_ended = self.next >= end;
        Ok(if self.has_ended { PartitionStatus::Ended } else { status })
    }

    /// Messages were fetched, or the end was met.
    fn met(&mut self, end: Option<i64>, consumer: &Consumer) -> PartitionStatus {
        consumer.is_let_in();
        let bound = self.end.unwrap_or(i64::MAX);
        // Behind the last message there may be markers of transactions, which are no messages.
        if let Some(offset) = end {
            self.next = self.next.max(offset.min(bound));
        }
        // Messages may have come behind the end that was met before.
        self.is_at_end = end.is_some_and(|offset| self.next == offset);
        if self.is_at_end { PartitionStatus::CaughtUp } else { PartitionStatus::More }
    }

    fn nothing(&self, consumer: &Consumer) -> PartitionStatus {
        match self.is_at_end {
            // There may be more than the end that was met before.
            _ if consumer.is_silent(&self.topic, self.number) => PartitionStatus::Unavailable,
            true => PartitionStatus::CaughtUp,
            false => PartitionStatus::Pending,
        }
    }

    /// The client goes on trying where it can; what it cannot mend ends the job by name.
    fn failed(&mut self, code: Code, text: &str) -> Result<()> {
        match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange => self.doubt = Some(Instant::now()),
            // What comes behind such messages would be read as if they had not been there.
            Code::BadMessage | Code::BadCompression | Code::NotImplemented => {
                return Err(Error::environment(format!(
                    "{self} cannot be read behind offset {}: {text}. A message there is damaged or of an unknown form; look at it \
                     with another client, and start behind it with a new checkpoint directory",
                    self.next
                )));
            }
            // That the topic is not known may be for a moment only; `look_for_deletions` finds out.
            code if is_permanent(code) && !is_unknown(code) => {
                return Err(Error::environment(format!("{self} cannot be read: {text}{}", remedy(code))));
            }
            _ => {}
        }
        warn!(target: "kafka", "{self}: {text}");
        Ok(())
    }

    /// A fetch was refused for its offset, or a new leader has not said in time that it has that offset, too: whether it is there
    /// and is fetched again. While the brokers do not answer, nothing is known.
    fn is_position_there(&mut self, consumer: &Consumer) -> Result<bool> {
        if self.doubt.is_none_or(|ask_at| ask_at > Instant::now())
            || consumer.is_silent(&self.topic, self.number)
        {
            return Ok(false);
        }
        let next = self.next;
        match consumer.ends_now(&self.topic, self.number) {
            Err(error) => {
                warn!(target: "kafka", "{self}: cannot ask whether it has offset {next}: {error}");
                self.doubt = Some(Instant::now() + ASK_AGAIN);
                Ok(false)
            }
            Ok((first, end)) => {
                self.check_position(first, end)?;
                warn!(target: "kafka", "{self} has offset {next}, and is read on from there");
                self.doubt = None;
                if self.queue.start_again(next) {
                    return Ok(true);
                }
                Err(Error::environment(format!("{self} cannot be read again from offset {next} on")))
            }
        }
    }

    /// An error if the next offset is not among those that there are.
    fn check_position(&self, first: i64, end: i64) -> Result<()> {
        let next = self.next;
        if next < first {
            return Err(Error::job(format!(
                "the messages of {self} from offset {next} on are gone: the first that is left has offset {first}, so the topic \
                 keeps less than the job was behind. Go on without them from a new checkpoint directory, and raise the topic's \
                 retention"
            )));
        }
        if next > end {
            return Err(Error::job(format!(
                "{self} ends at offset {end}, and the job has read up to {next}: the topic was deleted and made again, or a \
                 broker has lost messages. Read it from its beginning with a new checkpoint directory"
            )));
        }
        Ok(())
    }

    fn gone(&self) -> Error {
        Error::job(format!(
            "{self} is not there any more: the topic was deleted, or the job's user may not see it. Create it again and start with \
             a new checkpoint directory, or give the right back"
        ))
    }
}

impl std::fmt::Display for OpenPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "partition {} of the topic {}", self.number, self.topic)
    }
}
