//! A function with state that also receives a broadcast stream.
//!
//! It is an ordinary function with state ([`Adapter`]) that reads the shared state which a second input of the same
//! operator chain ([`Listener`]) computes from the broadcast records; both take part in the same barrier. The broadcast
//! stream does not affect the watermark: rules that change once a week must not hold event time back.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tidegate_protocol::Epoch;

use crate::checkpoint::collector::SnapshotParts;
use crate::dataflow::operator::{OpenContext, Operator};
use crate::dataflow::operator_chain::OperatorChain;
use crate::dataflow::outlet::Receiver;
use crate::dataflow::step_context::StepContext;
use crate::keyed_process::{BroadcastProcess, Context, KeyedProcess};
use crate::state::store::{cannot_read_back, decode_all, encode};
use crate::step::Step;
use crate::timer::Timer;
use crate::watermark::WatermarkUpdate;
use tidegate_connector_api::Record;
use tidegate_protocol::{Error, ErrorContext, Result};

/// Suffix of the uid for the state of the broadcast stream.
pub(crate) const SHARED: &str = "#broadcast";

/// The function, and its state of the broadcast stream.
pub(crate) struct Both<F: BroadcastProcess> {
    f: F,
    shared: F::Shared,
}

/// See [`crate::api::BroadcastConnected::process`].
pub(crate) fn pair<F: BroadcastProcess>(f: F) -> Rc<RefCell<Both<F>>> {
    Rc::new(RefCell::new(Both { f, shared: F::Shared::default() }))
}

/// The side of the keyed stream.
pub(crate) struct Adapter<F: BroadcastProcess>(pub(crate) Rc<RefCell<Both<F>>>);

impl<F: BroadcastProcess> KeyedProcess for Adapter<F> {
    type Key = F::Key;
    type In = F::In;
    type State = F::State;
    type Out = F::Out;
    type Side = F::Side;

    fn on_record(&mut self, record: F::In, context: &mut Context<'_, Self>) -> Result<()> {
        let Both { f, shared } = &mut *self.0.borrow_mut();
        f.on_record(record, shared, context)
    }

    fn on_timer(&mut self, timer: Timer, context: &mut Context<'_, Self>) -> Result<()> {
        let Both { f, shared } = &mut *self.0.borrow_mut();
        f.on_timer(timer, shared, context)
    }
}

/// The side of the broadcast stream.
pub(crate) struct Listener<F: BroadcastProcess> {
    cx: StepContext,
    step: Arc<Step>,
    both: Rc<RefCell<Both<F>>>,
}

impl<F: BroadcastProcess> Listener<F> {
    pub(crate) fn new(chain: &Rc<OperatorChain>, step: &Arc<Step>, both: Rc<RefCell<Both<F>>>) -> Self {
        Self { cx: StepContext::new(chain, step), step: step.clone(), both }
    }

    fn uid(&self) -> String {
        format!("{}{SHARED}", self.step.uid())
    }
}

impl<F: BroadcastProcess> Receiver<F::Broadcast> for Listener<F> {
    fn records(&mut self, batch: &mut Vec<Record<F::Broadcast>>) {
        self.cx.enter();
        let Both { f, shared } = &mut *self.both.borrow_mut();
        for record in batch.drain(..) {
            self.cx.record(&record);
            let result = f.on_broadcast(record.value, shared);
            if result.is_err() {
                self.cx.or_fail(result);
                return;
            }
        }
    }

    fn watermark(&mut self, _: WatermarkUpdate) {}
}

impl<F: BroadcastProcess> Operator for Listener<F> {
    fn open(&mut self, context: &OpenContext<'_>) -> Result<()> {
        let uid = self.uid();
        let kept =
            context.restored(&uid).find_map(|part| part.extra.get("shared")?.as_str().map(str::to_owned));
        if let Some(text) = kept {
            let what = || format!("the broadcast state of '{uid}'");
            let unreadable =
                |e| Error::internal("the snapshot does not hold it as base64").caused_by(e).context(what());
            let bytes = BASE64.decode(text).map_err(unreadable)?;
            let shared = decode_all(&bytes).map_err(|why| cannot_read_back::<F::Shared>(&why));
            self.both.borrow_mut().shared = shared.context(what)?;
        }
        Ok(())
    }

    /// Every worker has the same state; the snapshot holds one copy of it.
    fn barrier(&mut self, _: Epoch, parts: &mut SnapshotParts) -> Result<()> {
        if self.cx.chain.worker.slot.0 == 0 {
            let mut bytes = Vec::new();
            encode(&self.both.borrow().shared, &mut bytes)
                .context(|| format!("step '{}', its broadcast state", self.step.name()))?;
            parts.keep(&self.uid(), "shared", BASE64.encode(bytes).into());
        }
        Ok(())
    }
}
