//! Functions with state and timers by key: what a job author writes when no ready-made step fits.

use crate::timer::Timer;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::key::Key;
use crate::key_context::KeyContext;
use tidegate_protocol::Result;

/// A function over a keyed stream, with state of its own and timers for every key.
///
/// The state is one value a key, of any type that derives serde's traits: a number, a list, a map, a struct of all three.
/// It is written to the snapshot as a whole when it has changed, so a list or map of many megabytes under one key is
/// better spread over more keys. The function reaches it through [`KeyContext::state`]; a key without state costs nothing.
/// Fields of the struct that implements this trait are not state: they are not in snapshots, begin anew at every start,
/// and every worker has its own.
///
/// A function that needs neither timers nor a side output can be a closure:
/// [`KeyedStream::map_with_state`](crate::KeyedStream::map_with_state) and
/// [`flat_map_with_state`](crate::KeyedStream::flat_map_with_state).
///
/// ```
/// use tidegate::testing::{VecSource, collect};
/// use tidegate::{Context, KeyedProcess, Result, Timer, Watermarks};
///
/// /// Reports how many records of a key came in a row, ten milliseconds after the last of them.
/// struct Runs;
///
/// impl KeyedProcess for Runs {
///     type Key = u32;
///     type In = (u32, i64);
///     type State = (u64, i64);
///     type Out = (u32, u64);
///     type Side = ();
///
///     fn on_record(&mut self, (_, at): (u32, i64), context: &mut Context<'_, Self>) -> Result<()> {
///         let (count, ends_at) = context.state.get_mut();
///         if *count > 0 && at >= *ends_at {
///             // Records come in batches, and timers fire between them: the one of this run has not yet.
///             context.out.emit((*context.key, *count));
///             *count = 0;
///         }
///         context.timers.clear(Timer::event(*ends_at));
///         *count += 1;
///         *ends_at = at + 10;
///         context.timers.set(Timer::event(*ends_at));
///         Ok(())
///     }
///
///     fn on_timer(&mut self, _: Timer, context: &mut Context<'_, Self>) -> Result<()> {
///         if let Some((count, _)) = context.state.get() {
///             context.out.emit((*context.key, *count));
///         }
///         context.state.clear();
///         Ok(())
///     }
/// }
///
/// let mut out = collect(|job| {
///     let clicks = job.source("clicks", VecSource::of([(1, 0), (1, 5), (2, 7), (1, 30)]));
///     let clicks = clicks.event_time(|click| click.1, Watermarks::monotonous());
///     Ok(clicks.key_by(|click| &click.0).process("runs", Runs))
/// })?;
/// out.sort_unstable();
/// assert_eq!(out, [(1, 1), (1, 2), (2, 1)]);
/// # Ok::<(), tidegate::Error>(())
/// ```
///
/// A value, a list and a map in one state:
///
/// ```
/// use std::collections::{BTreeMap, VecDeque};
/// use tidegate::testing::{VecSource, collect};
/// use tidegate::{Context, KeyedProcess, Result};
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
/// impl KeyedProcess for Visitors {
///     type Key = u32;
///     type In = (u32, String);
///     type State = Visits;
///     type Out = (u64, usize, u64);
///     type Side = ();
///
///     fn on_record(&mut self, (_, page): (u32, String), context: &mut Context<'_, Self>) -> Result<()> {
///         let visits = context.state.get_mut();
///         visits.total += 1;
///         visits.last_three.push_front(page.clone());
///         visits.last_three.truncate(3);
///         let of_page = visits.by_page.entry(page).or_default();
///         *of_page += 1;
///         context.out.emit((visits.total, visits.last_three.len(), *of_page));
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
/// The format of a snapshot is not self-describing, so a type whose `Deserialize` asks for the type of the value cannot be
/// read back from it. State, accumulators, keys and the state of a broadcast stream can have any type that derives serde's
/// traits, except for the following, anywhere in it:
///
/// | not possible | because |
/// |---|---|
/// | `#[serde(skip_serializing)]`, `#[serde(skip_serializing_if)]` | the bytes do not say that the field is missing; `#[serde(skip)]` is possible, the field is then its default after a restart |
/// | `#[serde(flatten)]`, `#[serde(untagged)]`, `#[serde(tag)]`, `serde_json::Value` | reading asks for the type of the value, which the bytes do not contain |
/// | `#[serde(with)]`, `#[serde(serialize_with)]`, or traits written by hand, where reading and writing differ | what one writes the other must read |
///
/// A job that keeps one of those is refused before it starts. For that check the type is tested with generated values
/// (zeros, ones, empty and filled options and lists). A `skip_serializing_if` that leaves a field out of none of these is
/// noticed when a value without the field is to be written to the state store, at the latest at the next checkpoint: the
/// job ends with a message that names the field, and earlier snapshots stay readable. The same types can
/// [cross](crate::Data#what-can-cross) to another worker.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a process function of a keyed stream",
    label = "not a `KeyedProcess`",
    note = "implement `KeyedProcess` for a struct of your own, with the types `Key`, `In`, `State`, `Out` and `Side` and the \
            function `on_record`; `Key` and `In` are those of the stream",
    note = "a closure cannot be one: `flat_map_with_state(\"name\", |state: &mut State, record| ..)` and `map_with_state` take \
            closures, for state without timers"
)]
pub trait KeyedProcess: Sized + 'static {
    /// The type of the stream's keys.
    type Key: Key;
    /// The type of the stream's records. Behind [`connect`](crate::KeyedStream::connect) it is
    /// [`Either<Left, Right>`](crate::Either).
    type In: 'static;
    /// What is kept for a key; [some types](KeyedProcess#what-can-be-kept) cannot be.
    type State: Serialize + DeserializeOwned + Default + 'static;
    /// The type of the records that come out.
    type Out: 'static;
    /// The type of the records of the side output; `()` if there is none.
    type Side: 'static;

    /// A record of the key has come.
    ///
    /// # Errors
    /// An error ends the job with a message that names this step.
    fn on_record(&mut self, record: Self::In, context: &mut Context<'_, Self>) -> Result<()>;

    /// A timer of the key is due.
    ///
    /// # Errors
    /// An error ends the job with a message that names this step.
    fn on_timer(&mut self, timer: Timer, context: &mut Context<'_, Self>) -> Result<()> {
        let _ = (timer, context);
        Ok(())
    }
}

/// What a [`KeyedProcess`] gets besides the record or the timer; `F` is the function. See [`KeyContext`] for its fields.
///
/// ```
/// use tidegate::testing::{VecSource, collect};
/// use tidegate::{Context, KeyedProcess, Result};
///
/// /// Numbers the records of every key.
/// struct Number;
///
/// impl KeyedProcess for Number {
///     type Key = char;
///     type In = char;
///     type State = u64;
///     type Out = (char, u64);
///     type Side = ();
///
///     fn on_record(&mut self, _: char, context: &mut Context<'_, Self>) -> Result<()> {
///         let number = context.state.get_mut();
///         *number += 1;
///         context.out.emit((*context.key, *number));
///         Ok(())
///     }
/// }
///
/// let out = collect(|job| {
///     let letters = job.source("letters", VecSource::of(['a', 'b', 'a'])).key_by(|letter| letter);
///     Ok(letters.process("number", Number))
/// })?;
/// assert_eq!(out, [('a', 1), ('b', 1), ('a', 2)]);
/// # Ok::<(), tidegate::Error>(())
/// ```
pub type Context<'a, F> = KeyContext<
    'a,
    <F as KeyedProcess>::Key,
    <F as KeyedProcess>::State,
    <F as KeyedProcess>::Out,
    <F as KeyedProcess>::Side,
>;

/// What a [`BroadcastProcess`] gets besides the record or the timer; `F` is the function. It has the same fields as the
/// context of a [`KeyedProcess`], see [`KeyContext`]; what is kept of the broadcast stream comes as an argument of its own.
///
/// [`KeyedStream::connect_broadcast`](crate::KeyedStream::connect_broadcast) has an example.
pub type BroadcastContext<'a, F> = KeyContext<
    'a,
    <F as BroadcastProcess>::Key,
    <F as BroadcastProcess>::State,
    <F as BroadcastProcess>::Out,
    <F as BroadcastProcess>::Side,
>;

/// A function over a keyed stream that also receives a broadcast stream: rules, thresholds, models that change while the
/// job runs.
///
/// Every worker receives every broadcast record and keeps its own copy of what follows from them, which is part of
/// snapshots. Workers may receive the records of different senders in different orders: what follows from them should not
/// depend on that.
///
/// [`KeyedStream::connect_broadcast`](crate::KeyedStream::connect_broadcast) has an example.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a process function of a keyed stream with a broadcast stream",
    label = "not a `BroadcastProcess`",
    note = "implement `BroadcastProcess` for a struct of your own (a closure cannot be one), with the types `Key`, `In`, \
            `Broadcast`, `State`, `Shared`, `Out` and `Side` and the functions `on_broadcast` and `on_record`; `Key`, `In` and \
            `Broadcast` are those of the streams"
)]
pub trait BroadcastProcess: Sized + 'static {
    /// The type of the keyed stream's keys.
    type Key: Key;
    /// The type of the keyed stream's records.
    type In: 'static;
    /// The type of the broadcast stream's records.
    type Broadcast: 'static;
    /// What is kept for a key; [some types](KeyedProcess#what-can-be-kept) cannot be.
    type State: Serialize + DeserializeOwned + Default + 'static;
    /// What is kept of the broadcast stream, the same on every worker; [some types](KeyedProcess#what-can-be-kept) cannot
    /// be.
    type Shared: Serialize + DeserializeOwned + Default + 'static;
    /// The type of the records that come out.
    type Out: 'static;
    /// The type of the records of the side output; `()` if there is none.
    type Side: 'static;

    /// A broadcast record has come.
    ///
    /// # Errors
    /// An error ends the job with a message that names this step.
    fn on_broadcast(&mut self, record: Self::Broadcast, shared: &mut Self::Shared) -> Result<()>;

    /// A record of the key has come.
    ///
    /// # Errors
    /// An error ends the job with a message that names this step.
    fn on_record(
        &mut self,
        record: Self::In,
        shared: &Self::Shared,
        context: &mut BroadcastContext<'_, Self>,
    ) -> Result<()>;

    /// A timer of the key is due.
    ///
    /// # Errors
    /// An error ends the job with a message that names this step.
    fn on_timer(
        &mut self,
        timer: Timer,
        shared: &Self::Shared,
        context: &mut BroadcastContext<'_, Self>,
    ) -> Result<()> {
        let _ = (timer, shared, context);
        Ok(())
    }
}
