//! A keyed stream with a broadcast stream beside it.

use std::cell::RefCell;
use std::rc::Rc;

use crate::api::keyed::KeyedStream;
use crate::api::plain::Stream;
use crate::data::Data;
use crate::dataflow::outlet::Outlet;
use crate::dataflow::partitioner::Route;
use crate::fingerprint::state_type_of;
use crate::key::Key;
use crate::keyed_process::BroadcastProcess;
use crate::operators::broadcast;

/// A keyed stream, and a stream that all of its workers receive.
#[must_use = "connected streams do nothing until they are processed"]
pub struct BroadcastConnected<K, T, B> {
    pub(super) keyed: KeyedStream<K, T>,
    pub(super) broadcast: Stream<B>,
}

impl<K: Key, T: Data, B: Data + Clone> BroadcastConnected<K, T, B> {
    /// Runs a function with state and timers over the keyed stream, which also receives the broadcast stream. See
    /// [`KeyedStream::connect_broadcast`] for an example.
    pub fn process<F: BroadcastProcess<Key = K, In = T, Broadcast = B>>(
        self,
        name: &str,
        f: F,
    ) -> Stream<F::Out> {
        self.process_with_side(name, f).0
    }

    /// The same; the second stream is the function's side output.
    ///
    /// ```
    /// use tidegate::testing::{Discard, TestJob, TestSource, VecSink};
    /// use tidegate::{BroadcastContext, BroadcastProcess, Result};
    ///
    /// /// Sends numbers that were banned to the side.
    /// struct Ban;
    ///
    /// impl BroadcastProcess for Ban {
    ///     type Key = i64;
    ///     type In = i64;
    ///     type Broadcast = i64;
    ///     type State = ();
    ///     type Shared = Vec<i64>;
    ///     type Out = i64;
    ///     type Side = i64;
    ///
    ///     fn on_broadcast(&mut self, number: i64, banned: &mut Vec<i64>) -> Result<()> {
    ///         banned.push(number);
    ///         Ok(())
    ///     }
    ///
    ///     fn on_record(
    ///         &mut self,
    ///         number: i64,
    ///         banned: &Vec<i64>,
    ///         context: &mut BroadcastContext<'_, Self>,
    ///     ) -> Result<()> {
    ///         if banned.contains(&number) { context.side.emit(number) } else { context.out.emit(number) }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let (numbers, banned, out) = (TestSource::new(1), TestSource::new(1), VecSink::new());
    /// let (from, heard, sink) = (numbers.clone(), banned.clone(), out.clone());
    /// let job = TestJob::new(move |job| {
    ///     let banned = job.source("banned", heard.clone());
    ///     let numbers = job.source("numbers", from.clone()).key_by(|n| n);
    ///     let (good, bad) = numbers.connect_broadcast(banned).process_with_side("ban", Ban);
    ///     good.sink("good", Discard::named("good"));
    ///     bad.sink("bad", sink.clone());
    ///     Ok(())
    /// });
    /// let running = job.start();
    /// banned.push(0, 13);
    /// running.checkpoint();
    /// numbers.extend(0, [12, 13]);
    /// numbers.end();
    /// banned.end();
    /// running.wait()?;
    /// assert_eq!(out.records(), [13]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn process_with_side<F: BroadcastProcess<Key = K, In = T, Broadcast = B>>(
        self,
        name: &str,
        f: F,
    ) -> (Stream<F::Out>, Stream<F::Side>) {
        let both = broadcast::pair(f);
        let adapter = broadcast::Adapter(both.clone());
        let (main, side) = self.keyed.process_with_side(name, adapter);
        let Stream { job, chain, .. } = &main;
        let listener = Rc::new(RefCell::new(broadcast::Listener::new(chain, main.step(), both)));
        chain.add(listener.clone());
        job.declare_state(main.step(), broadcast::SHARED, state_type_of(&F::Shared::default()));
        let inlet = Outlet::new();
        inlet.attach(listener);
        let from = (&*self.broadcast.chain, &self.broadcast.outlet);
        job.exchange(
            main.step(),
            from,
            (chain, inlet),
            Route::Broadcast(tidegate_connector_api::Record::clone),
        );
        (main, side)
    }
}
