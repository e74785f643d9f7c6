//! Functions with state and timers by key: what a job author writes when no ready-made step fits.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::key::Key;
use crate::state::timers::Timers;
use tidegate_protocol::Result;

/// A function over a keyed stream, with state of its own and timers for every key.
///
/// The state is one value a key, of any type that derives serde's traits: a number, a list, a map, a struct of all three.
/// It is written to the snapshot as a whole when it has changed, so a list or map of many megabytes under one key is
/// better spread over more keys. It is read with [`KeyContext::state`], changed through [`KeyContext::state_mut`] and removed by
/// [`KeyContext::clear`]; a key without state costs nothing. Fields of the struct that implements this trait are no state:
/// they are not in snapshots, begin anew at every start, and every worker has its own.
///
/// ```
/// use tidegate::testing::{VecSource, collect};
/// use tidegate::{KeyedProcess, ProcessContext, Result, Timer, Watermarks};
///
/// /// Tells how many records of a key came in a row, ten milliseconds after the last of them.
/// struct Runs;
///
/// impl KeyedProcess<u32, (u32, i64)> for Runs {
///     type State = (u64, i64);
///     type Out = (u32, u64);
///     type Side = ();
///
///     fn on_record(
///         &mut self,
///         record: (u32, i64),
///         context: &mut ProcessContext<'_, u32, (u32, i64), Self>,
///     ) -> Result<()> {
///         let before = Timer::event(context.state_mut().1);
///         context.clear_timer(before);
///         let count = context.state_mut().0 + 1;
///         *context.state_mut() = (count, record.1 + 10);
///         context.set_timer(Timer::event(record.1 + 10));
///         Ok(())
///     }
///
///     fn on_timer(
///         &mut self,
///         _: Timer,
///         context: &mut ProcessContext<'_, u32, (u32, i64), Self>,
///     ) -> Result<()> {
///         let count = context.state_mut().0;
///         context.emit((*context.key(), count));
///         context.clear();
///         Ok(())
///     }
/// }
///
/// let mut out = collect(|job| {
///     let clicks = job.source("clicks", VecSource::of([(1, 0), (1, 5), (2, 7)]));
///     let clicks = clicks.event_time(|click| click.1, Watermarks::monotonous());
///     Ok(clicks.key_by(|click| &click.0).process("runs", Runs))
/// })?;
/// out.sort_unstable();
/// assert_eq!(out, [(1, 2), (2, 1)]);
/// # Ok::<(), tidegate::Error>(())
/// ```
///
/// A value, a list and a map in one state:
///
/// ```
/// use std::collections::{BTreeMap, VecDeque};
/// use tidegate::testing::{VecSource, collect};
/// use tidegate::{KeyedProcess, ProcessContext, Result};
///
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Visits {
///     total: u64,
///     last_three: VecDeque<String>,
///     by_page: BTreeMap<String, u64>,
/// }
///
/// struct Visitors;
///
/// impl KeyedProcess<u32, (u32, String)> for Visitors {
///     type State = Visits;
///     type Out = (u64, usize, u64);
///     type Side = ();
///
///     fn on_record(
///         &mut self,
///         (_, page): (u32, String),
///         context: &mut ProcessContext<'_, u32, (u32, String), Self>,
///     ) -> Result<()> {
///         let visits = context.state_mut();
///         visits.total += 1;
///         visits.last_three.push_front(page.clone());
///         visits.last_three.truncate(3);
///         let of_page = visits.by_page.entry(page).or_default();
///         *of_page += 1;
///         let out = (visits.total, visits.last_three.len(), *of_page);
///         context.emit(out);
///         Ok(())
///     }
/// }
///
/// let out = collect(|job| {
///     let visits = ["home", "help", "home"].map(|page| (7, page.to_owned()));
///     Ok(job.source("visits", VecSource::of(visits)).key_by(|visit| &visit.0).process("visitors", Visitors))
/// })?;
/// assert_eq!(out, [(1, 1, 1), (2, 2, 1), (3, 3, 2)]);
/// # Ok::<(), tidegate::Error>(())
/// ```
///
/// # What can be kept
///
/// A snapshot does not describe its values, so one that wants to be told what it is cannot be read back from it. State,
/// accumulators, keys and what is kept of a broadcast stream can have any type that derives serde's traits, except for the
/// following, anywhere in it:
///
/// | not possible | because |
/// |---|---|
/// | `#[serde(skip_serializing)]`, `#[serde(skip_serializing_if)]` | the bytes do not say that the field is missing; `#[serde(skip)]` is possible, the field is then its default after a restart |
/// | `#[serde(flatten)]`, `#[serde(untagged)]`, `#[serde(tag)]`, `serde_json::Value` | reading asks what the bytes are, and they do not say |
/// | `#[serde(with)]`, `#[serde(serialize_with)]`, or traits written by hand, where reading and writing differ | what one writes the other must read |
///
/// A job that keeps one of those is refused before it starts. For that the type is tried with values made up for it (zeros,
/// ones, empty and filled options and lists). A `skip_serializing_if` that leaves a field out of none of these is noticed when
/// a value without the field is to be written to the state store, at the latest at the next checkpoint: the job ends with a
/// message that names the field, and the snapshots before stay readable. What can [cross](crate::Data#what-can-cross) to
/// another worker is the same.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a process function for records of the type `{T}` with keys of the type `{K}`",
    label = "not a `KeyedProcess<{K}, {T}>`",
    note = "implement `KeyedProcess<{K}, {T}>` for a struct of your own (a closure cannot be one), with the types `State`, `Out` \
            and `Side` and the function `on_record`"
)]
pub trait KeyedProcess<K, T>: 'static {
    /// What is kept for a key; [some types](KeyedProcess#what-can-be-kept) cannot be.
    type State: Serialize + DeserializeOwned + Default + 'static;
    /// What comes out.
    type Out: 'static;
    /// What goes to the side output; `()` if there is none.
    type Side: 'static;

    /// A record of the key has come.
    ///
    /// # Errors
    /// An error ends the job with a message that names this step.
    fn on_record(&mut self, record: T, context: &mut ProcessContext<'_, K, T, Self>) -> Result<()>
    where
        Self: Sized;

    /// A timer of the key is due.
    ///
    /// # Errors
    /// An error ends the job with a message that names this step.
    fn on_timer(&mut self, timer: Timer, context: &mut ProcessContext<'_, K, T, Self>) -> Result<()>
    where
        Self: Sized,
    {
        let _ = (timer, context);
        Ok(())
    }
}

/// A timer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The time it was set for, in milliseconds since the Unix epoch.
    pub at: i64,
    /// What kind of time.
    pub domain: TimeDomain,
}

impl Timer {
    /// A timer of event time, due when the watermark reaches `at`.
    pub fn event(at: i64) -> Self {
        Self { at, domain: TimeDomain::Event }
    }

    /// A timer of processing time, due when the clock reaches `at`.
    pub fn processing(at: i64) -> Self {
        Self { at, domain: TimeDomain::Processing }
    }
}

/// The kinds of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeDomain {
    /// Of the records, told by watermarks.
    Event,
    /// Of the clock on the wall.
    Processing,
}

/// What a [`KeyedProcess`] can do for the key at hand.
pub type ProcessContext<'a, K, T, F> = KeyContext<
    'a,
    K,
    <F as KeyedProcess<K, T>>::State,
    <F as KeyedProcess<K, T>>::Out,
    <F as KeyedProcess<K, T>>::Side,
>;

/// What a [`BroadcastProcess`] can do for the key at hand.
pub type BroadcastContext<'a, K, T, B, F> = KeyContext<
    'a,
    K,
    <F as BroadcastProcess<K, T, B>>::State,
    <F as BroadcastProcess<K, T, B>>::Out,
    <F as BroadcastProcess<K, T, B>>::Side,
>;

/// A function over a keyed stream that also hears a broadcast stream: rules, thresholds, models that change while the
/// job runs.
///
/// Every worker hears every broadcast record and keeps its own copy of what follows from them, which is part of
/// snapshots. Workers may hear the records of different senders in different orders: what follows from them should not
/// depend on that.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a process function for records of the type `{T}` with keys of the type `{K}` and broadcast records \
               of the type `{B}`",
    label = "not a `BroadcastProcess<{K}, {T}, {B}>`",
    note = "implement `BroadcastProcess<{K}, {T}, {B}>` for a struct of your own (a closure cannot be one), with the types \
            `State`, `Shared`, `Out` and `Side` and the functions `on_broadcast` and `on_record`"
)]
pub trait BroadcastProcess<K, T, B>: 'static {
    /// What is kept for a key; [some types](KeyedProcess#what-can-be-kept) cannot be.
    type State: Serialize + DeserializeOwned + Default + 'static;
    /// What is kept of the broadcast stream, the same on every worker; [some types](KeyedProcess#what-can-be-kept) cannot
    /// be.
    type Shared: Serialize + DeserializeOwned + Default + 'static;
    /// What comes out.
    type Out: 'static;
    /// What goes to the side output; `()` if there is none.
    type Side: 'static;

    /// A broadcast record has come.
    ///
    /// # Errors
    /// An error ends the job with a message that names this step.
    fn on_broadcast(&mut self, record: B, shared: &mut Self::Shared) -> Result<()>;

    /// A record of the key has come.
    ///
    /// # Errors
    /// An error ends the job with a message that names this step.
    fn on_record(
        &mut self,
        record: T,
        shared: &Self::Shared,
        context: &mut BroadcastContext<'_, K, T, B, Self>,
    ) -> Result<()>
    where
        Self: Sized;

    /// A timer of the key is due.
    ///
    /// # Errors
    /// An error ends the job with a message that names this step.
    fn on_timer(
        &mut self,
        timer: Timer,
        shared: &Self::Shared,
        context: &mut BroadcastContext<'_, K, T, B, Self>,
    ) -> Result<()>
    where
        Self: Sized,
    {
        let _ = (timer, shared, context);
        Ok(())
    }
}

/// What a function with state can do for the key at hand: `S` is the state, `O` what comes out, `X` the side output.
pub struct KeyContext<'a, K, S, O, X> {
    pub(crate) key: &'a K,
    pub(crate) hash: u64,
    pub(crate) event_time: i64,
    pub(crate) watermark: i64,
    pub(crate) now: i64,
    /// True at the end of the input, when no further time comes.
    pub(crate) has_ended: bool,
    pub(crate) state: Option<S>,
    pub(crate) changed: bool,
    pub(crate) out: &'a mut Vec<O>,
    pub(crate) side: &'a mut Vec<X>,
    pub(crate) event_timers: &'a mut Timers<K>,
    pub(crate) processing_timers: &'a mut Timers<K>,
    pub(crate) failed: Option<crate::Error>,
}

impl<K: Key, S: Default, O, X> KeyContext<'_, K, S, O, X> {
    /// The key at hand.
    pub fn key(&self) -> &K {
        self.key
    }

    /// The event time of the record at hand, or the time of the timer (milliseconds since the Unix epoch).
    pub fn event_time(&self) -> i64 {
        self.event_time
    }

    /// How far event time has come; None before the first watermark, and `i64::MAX` at the end of the input, with which one
    /// can compare but not calculate. A record is late if its event time is not greater.
    pub fn watermark(&self) -> Option<i64> {
        (self.watermark > i64::MIN).then_some(self.watermark)
    }

    /// Processing time, in milliseconds since the Unix epoch.
    pub fn processing_time(&self) -> i64 {
        self.now
    }

    /// The key's state, if it has any.
    pub fn state(&self) -> Option<&S> {
        self.state.as_ref()
    }

    /// The key's state, to be changed; made by default if there is none.
    pub fn state_mut(&mut self) -> &mut S {
        self.changed = true;
        self.state.get_or_insert_default()
    }

    /// Removes the key's state.
    pub fn clear(&mut self) {
        self.changed |= self.state.take().is_some();
    }

    /// Puts a record out, with the [event time](Self::event_time) of the record at hand or the time of the timer. That of a
    /// timer of processing time is a time of the clock.
    pub fn emit(&mut self, record: O) {
        self.out.push(record);
    }

    /// Puts a record to the side output, with the same event time as [`KeyContext::emit`].
    pub fn emit_side(&mut self, record: X) {
        self.side.push(record);
    }

    /// Has [`KeyedProcess::on_timer`] called for this key once the time has come. A timer that is set twice fires once.
    ///
    /// Timers fire in order of time, also those that a timer sets for a later time that has come already. A timer for a
    /// time that has passed, when it is set by a record, or by a timer for its own time or before, fires when the watermark
    /// comes further the next time; in processing time it fires in the next round.
    ///
    /// At the end of the input event time first comes to the furthest that any partition had. Then everything that is still
    /// set fires once, timers of event time before those of processing time. A timer that is set meanwhile is not kept: no
    /// time follows at which it could fire. So a timer that sets itself again and again ends with the input, at any
    /// parallelism, and in the same way after a crash.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tidegate::clock::ManualClock;
    /// use tidegate::testing::{TestJob, TestSource, VecSink};
    /// use tidegate::{KeyedProcess, ProcessContext, Result, Timer};
    ///
    /// /// Tells of a device that it was heard of, a second later.
    /// struct Reminder;
    ///
    /// impl KeyedProcess<u32, u32> for Reminder {
    ///     type State = ();
    ///     type Out = (u32, i64);
    ///     type Side = ();
    ///
    ///     fn on_record(&mut self, _: u32, context: &mut ProcessContext<'_, u32, u32, Self>) -> Result<()> {
    ///         let at = context.processing_time() + 1_000;
    ///         context.set_timer(Timer::processing(at));
    ///         Ok(())
    ///     }
    ///
    ///     fn on_timer(&mut self, timer: Timer, context: &mut ProcessContext<'_, u32, u32, Self>) -> Result<()> {
    ///         context.emit((*context.key(), timer.at));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let (devices, out, clock) = (TestSource::new(1), VecSink::new(), Arc::new(ManualClock::at(0)));
    /// let (source, sink) = (devices.clone(), out.clone());
    /// let job = TestJob::new(move |job| {
    ///     let devices = job.source("devices", source.clone()).key_by(|device| device);
    ///     devices.process("reminder", Reminder).sink("out", sink.clone());
    ///     Ok(())
    /// })
    /// .clock(clock.clone());
    /// let running = job.start();
    /// devices.push(0, 7);
    /// running.checkpoint();
    /// clock.advance_ms(1_000);
    /// assert_eq!(out.wait_for(1), [(7, 1_000)]);
    /// # running.stop()?;
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn set_timer(&mut self, timer: Timer) {
        if self.has_ended {
            return;
        }
        let (key, hash) = (self.key, self.hash);
        let result = self.timers(timer.domain).set(timer.at, hash, key);
        self.note(result);
    }

    /// Takes a timer back.
    pub fn clear_timer(&mut self, timer: Timer) {
        let (key, hash) = (self.key, self.hash);
        let result = self.timers(timer.domain).clear(timer.at, hash, key);
        self.note(result);
    }

    fn timers(&mut self, domain: TimeDomain) -> &mut Timers<K> {
        match domain {
            TimeDomain::Event => self.event_timers,
            TimeDomain::Processing => self.processing_timers,
        }
    }

    fn note(&mut self, result: Result<()>) {
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
    }
}
