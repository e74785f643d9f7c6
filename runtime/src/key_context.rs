//! The context of a function with state for the current key: state, outputs, timers, times.
//!
//! Each of them is a separate field, so that one of them, above all the state, can be borrowed while the others are used.

use crate::key::Key;
use crate::state::timers::Timers;
use crate::timer::{TimeDomain, Timer};
use tidegate_protocol::{Error, Result};

/// The context of a function with state: `K` is the type of the key, `S` of the state, `O` of the output, `X` of the side
/// output. A function names it by [`Context`](crate::Context) or [`BroadcastContext`](crate::BroadcastContext).
///
/// The fields are separate, so a borrow of the state may be held while records are emitted and timers are set:
///
/// ```
/// use std::collections::BTreeMap;
/// use tidegate::testing::{VecSource, collect};
/// use tidegate::{Context, KeyedProcess, Result};
///
/// /// Counts the orders of a customer by article, and emits all counts at every order.
/// struct Orders;
///
/// impl KeyedProcess for Orders {
///     type Key = u32;
///     type In = (u32, String);
///     type State = BTreeMap<String, u64>;
///     type Out = (u32, String, u64);
///     type Side = ();
///
///     fn on_record(&mut self, (_, article): (u32, String), context: &mut Context<'_, Self>) -> Result<()> {
///         let counts = context.state.get_mut();
///         *counts.entry(article).or_default() += 1;
///         for (article, count) in counts {
///             context.out.emit((*context.key, article.clone(), *count));
///         }
///         Ok(())
///     }
/// }
///
/// let out = collect(|job| {
///     let orders = ["tea", "rice"].map(|article| (7, article.to_owned()));
///     Ok(job.source("orders", VecSource::of(orders)).key_by(|order| &order.0).process("counts", Orders))
/// })?;
/// let expected = [("tea", 1), ("rice", 1), ("tea", 1)];
/// assert_eq!(out, expected.map(|(article, count)| (7, article.to_owned(), count)));
/// # Ok::<(), tidegate::Error>(())
/// ```
///
/// A helper function takes the fields that it needs:
/// `fn warn(out: &mut Output<'_, Alert>, timers: &mut KeyTimers<'_, u32>)`.
#[non_exhaustive]
pub struct KeyContext<'a, K, S, O, X> {
    /// The current key.
    pub key: &'a K,
    /// The state of the key.
    pub state: ValueState<S>,
    /// The main output.
    pub out: Output<'a, O>,
    /// The side output, the second stream of `process_with_side`. With `process`, records that are emitted here are
    /// dropped.
    pub side: Output<'a, X>,
    /// The key's timers.
    pub timers: KeyTimers<'a, K>,
    /// The event time of the record or timer, the watermark and processing time.
    pub time: Times,
}

/// The state of the current key: one value, or none.
///
/// A key has no state until [`get_mut`](Self::get_mut) makes it, and none after [`clear`](Self::clear). A key without state
/// takes neither memory nor space in snapshots. So a function with many short-lived keys clears the state that it no longer
/// needs, typically in a timer.
///
/// The value is loaded before the function is called, and is written with the next checkpoint if it has changed. It counts
/// as changed if `get_mut` was called or `clear` removed it, whether or not it has another value afterwards; a function
/// that only looks at the state uses [`get`](Self::get).
///
/// ```
/// use tidegate::testing::{VecSource, collect};
/// use tidegate::{Context, KeyedProcess, Result};
///
/// /// Adds up the numbers of a key; zero ends a sum and puts it out.
/// struct Sums;
///
/// impl KeyedProcess for Sums {
///     type Key = char;
///     type In = (char, i64);
///     type State = i64;
///     type Out = Option<i64>;
///     type Side = ();
///
///     fn on_record(&mut self, (_, number): (char, i64), context: &mut Context<'_, Self>) -> Result<()> {
///         if number == 0 {
///             context.out.emit(context.state.get().copied());
///             context.state.clear();
///         } else {
///             *context.state.get_mut() += number;
///         }
///         Ok(())
///     }
/// }
///
/// let out = collect(|job| {
///     let numbers = job.source("numbers", VecSource::of([('a', 2), ('a', 3), ('a', 0), ('a', 0)]));
///     Ok(numbers.key_by(|number| &number.0).process("sums", Sums))
/// })?;
/// assert_eq!(out, [Some(5), None]);
/// # Ok::<(), tidegate::Error>(())
/// ```
pub struct ValueState<S> {
    value: Option<S>,
    changed: bool,
}

impl<S: Default> ValueState<S> {
    pub(crate) fn new(value: Option<S>) -> Self {
        Self { value, changed: false }
    }

    /// The value, and whether it is to be written.
    pub(crate) fn into_parts(self) -> (Option<S>, bool) {
        (self.value, self.changed)
    }

    /// The key's state; None if it has none. See the example of [`ValueState`].
    pub fn get(&self) -> Option<&S> {
        self.value.as_ref()
    }

    /// The key's state, to be changed; made by `Default` if there is none. It counts as changed from here on. See the
    /// example of [`ValueState`].
    pub fn get_mut(&mut self) -> &mut S {
        self.changed = true;
        self.value.get_or_insert_default()
    }

    /// Removes the key's state. See the example of [`ValueState`].
    pub fn clear(&mut self) {
        self.changed |= self.value.take().is_some();
    }
}

/// Where a function puts records: the main output or the side output.
///
/// ```
/// use tidegate::testing::{Discard, VecSource, collect};
/// use tidegate::{Context, KeyedProcess, Output, Result};
///
/// /// Emits words letter by letter, and what is not a word to the side output.
/// struct Spell;
///
/// fn spell(word: &str, out: &mut Output<'_, char>) {
///     for letter in word.chars() {
///         out.emit(letter);
///     }
/// }
///
/// impl KeyedProcess for Spell {
///     type Key = String;
///     type In = String;
///     type State = ();
///     type Out = char;
///     type Side = String;
///
///     fn on_record(&mut self, word: String, context: &mut Context<'_, Self>) -> Result<()> {
///         if word.chars().all(char::is_alphabetic) {
///             spell(&word, &mut context.out);
///         } else {
///             context.side.emit(word);
///         }
///         Ok(())
///     }
/// }
///
/// let letters = collect(|job| {
///     let words = job.source("words", VecSource::of(["tide", "42"].map(str::to_owned))).key_by(|word| word);
///     let (letters, others) = words.process_with_side("spell", Spell);
///     others.sink("others", Discard::named("others"));
///     Ok(letters)
/// })?;
/// assert_eq!(letters, ['t', 'i', 'd', 'e']);
/// # Ok::<(), tidegate::Error>(())
/// ```
pub struct Output<'a, O> {
    records: &'a mut Vec<O>,
}

impl<'a, O> Output<'a, O> {
    pub(crate) fn new(records: &'a mut Vec<O>) -> Self {
        Self { records }
    }

    /// Emits a record. Its event time is [`Times::event_time`]: that of the current record, or the time that the timer was
    /// set for, which is a processing time for a timer of processing time. See the example of [`Output`].
    pub fn emit(&mut self, record: O) {
        self.records.push(record);
    }
}

/// The timers of the current key.
///
/// A timer is a time and its kind, [`Timer`]; when the time has come, [`on_timer`](crate::KeyedProcess::on_timer) is called
/// with it, once, with the key that set it. Timers are part of snapshots.
///
/// Timers fire in order of time, including those that a timer sets for a later time that is due already. If a record sets a
/// timer for a time that has passed, or a timer does so for its own time or an earlier one, the new timer fires when the
/// watermark advances next; in processing time it fires in the next round.
///
/// At the end of the input, event time first advances to the highest that any partition has reached. Then all timers that
/// are still set fire once, timers of event time before those of processing time. A timer that is set meanwhile is not
/// kept: no time follows at which it could fire. So a timer that sets itself again and again ends with the input, at any
/// parallelism, and in the same way after a crash.
///
/// ```
/// use std::sync::Arc;
/// use tidegate::clock::ManualClock;
/// use tidegate::testing::{TestJob, TestSource, VecSink};
/// use tidegate::{Context, KeyedProcess, Result, Timer};
///
/// /// Reports a device that has not been heard of for a second.
/// struct Silence;
///
/// impl KeyedProcess for Silence {
///     type Key = u32;
///     type In = u32;
///     type State = i64;
///     type Out = (u32, i64);
///     type Side = ();
///
///     fn on_record(&mut self, _: u32, context: &mut Context<'_, Self>) -> Result<()> {
///         let silent_at = context.state.get_mut();
///         context.timers.clear(Timer::processing(*silent_at));
///         *silent_at = context.time.processing_time + 1_000;
///         context.timers.set(Timer::processing(*silent_at));
///         Ok(())
///     }
///
///     fn on_timer(&mut self, timer: Timer, context: &mut Context<'_, Self>) -> Result<()> {
///         context.out.emit((*context.key, timer.at));
///         context.state.clear();
///         Ok(())
///     }
/// }
///
/// let (devices, out, clock) = (TestSource::new(1), VecSink::new(), Arc::new(ManualClock::at(0)));
/// let (source, sink) = (devices.clone(), out.clone());
/// let job = TestJob::new(move |job| {
///     let devices = job.source("devices", source.clone()).key_by(|device| device);
///     devices.process("silence", Silence).sink("out", sink.clone());
///     Ok(())
/// })
/// .clock(clock.clone());
/// let running = job.start();
/// devices.push(0, 7);
/// running.checkpoint();
/// clock.advance_ms(600);
/// devices.push(0, 7);
/// running.checkpoint();
/// clock.advance_ms(1_000);
/// assert_eq!(out.wait_for(1), [(7, 1_600)]);
/// # running.stop()?;
/// # Ok::<(), tidegate::Error>(())
/// ```
pub struct KeyTimers<'a, K> {
    pub(crate) key: &'a K,
    pub(crate) hash: u64,
    /// True at the end of the input, when no further time comes.
    pub(crate) has_ended: bool,
    /// The source whose records come to the function without an event time, although it never ends or records of others have
    /// one: a timer of event time would not fire before the end of the input.
    pub(crate) without_time: Option<&'a str>,
    pub(crate) event: &'a mut Timers<K>,
    pub(crate) processing: &'a mut Timers<K>,
    /// The first error; it ends the job when the function returns.
    pub(crate) failed: Option<Error>,
}

impl<K: Key> KeyTimers<'_, K> {
    /// Sets a timer. One that is set already stays, and fires once. See the example of [`KeyTimers`].
    ///
    /// A timer of event time fires when event time reaches it. So setting one ends the job if the function receives records
    /// without an event time from a source that is followed, or beside records that have one: it would not fire before
    /// the end of the input.
    pub fn set(&mut self, timer: Timer) {
        if self.has_ended {
            return;
        }
        if let Some(source) = self.without_time.filter(|_| timer.domain == TimeDomain::Event) {
            return self.note(Err(never_fires(source)));
        }
        let (key, hash) = (self.key, self.hash);
        let result = self.of(timer.domain).set(timer.at, hash, key);
        self.note(result);
    }

    /// Removes a timer. Nothing happens if it is not set, or has fired. See the example of [`KeyTimers`].
    pub fn clear(&mut self, timer: Timer) {
        let (key, hash) = (self.key, self.hash);
        let result = self.of(timer.domain).clear(timer.at, hash, key);
        self.note(result);
    }

    fn of(&mut self, domain: TimeDomain) -> &mut Timers<K> {
        match domain {
            TimeDomain::Event => self.event,
            TimeDomain::Processing => self.processing,
        }
    }

    fn note(&mut self, result: Result<()>) {
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
    }
}

#[cold]
fn never_fires(source: &str) -> Error {
    Error::job(format!(
        "it sets a timer of event time, which would never fire before the end of the input: the records of the source '{source}' \
         come to it without an event time. Add .event_time(..) between that source and .key_by(..), or set a timer of \
         processing time, Timer::processing(..)"
    ))
}

/// The times at which a function is called, in milliseconds since the Unix epoch.
///
/// ```
/// use tidegate::testing::{VecSource, collect};
/// use tidegate::{Context, KeyedProcess, Result, Watermarks};
///
/// /// Lets records through that are not late.
/// struct InTime;
///
/// impl KeyedProcess for InTime {
///     type Key = u8;
///     type In = (u8, i64);
///     type State = ();
///     type Out = i64;
///     type Side = ();
///
///     fn on_record(&mut self, (_, at): (u8, i64), context: &mut Context<'_, Self>) -> Result<()> {
///         assert_eq!(context.time.event_time, at);
///         if Some(context.time.event_time) > context.time.watermark {
///             context.out.emit(at);
///         }
///         Ok(())
///     }
/// }
///
/// let out = collect(|job| {
///     let clicks = job.source("clicks", VecSource::of([(1, 100), (1, 200)]));
///     let clicks = clicks.event_time(|click| click.1, Watermarks::monotonous());
///     Ok(clicks.key_by(|click| &click.0).process("in_time", InTime))
/// })?;
/// assert_eq!(out, [100, 200]);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Times {
    /// The event time of the record at hand, or the time that the timer was set for. `i64::MIN` if the stream has no event
    /// time.
    pub event_time: i64,
    /// The watermark; None before the first one, and `i64::MAX` at the end of the input, a value that can be compared but
    /// not used in calculations. A record is late if its event time is not greater.
    pub watermark: Option<i64>,
    /// Processing time: what the clock says.
    pub processing_time: i64,
}
