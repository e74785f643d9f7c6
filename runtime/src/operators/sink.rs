//! A sink on one worker: writes records to staged files that readers do not see, and ends the file at every barrier.

use std::rc::Rc;
use std::sync::Arc;

use tidegate_protocol::Epoch;

use crate::checkpoint::collector::SnapshotParts;
use crate::dataflow::operator::{OpenContext, Operator};
use crate::dataflow::operator_chain::OperatorChain;
use crate::dataflow::outlet::Receiver;
use crate::dataflow::step_context::StepContext;
use crate::metrics::Counter;
use crate::metrics::descriptors;
use crate::panics::catch;
use crate::step::Step;
use crate::watermark::WatermarkUpdate;
use tidegate_connector_api::Record;
use tidegate_connector_api::{SinkId, SinkPlace, TransactionalSink, Writer};
use tidegate_protocol::{Error, ErrorContext, Result};

/// See [`crate::Stream::sink`].
pub(crate) struct SinkStep<T, S> {
    cx: StepContext,
    step: Arc<Step>,
    sink: Arc<S>,
    writer: Option<Box<dyn Writer<T>>>,
    written: Counter,
}

impl<T, S: TransactionalSink<T>> SinkStep<T, S> {
    pub(crate) fn new(sink: Arc<S>, step: &Arc<Step>, chain: Rc<OperatorChain>) -> Self {
        let written = chain.counter(step, descriptors::RECORDS_OUT);
        Self { cx: StepContext::new(&chain, step), step: step.clone(), sink, writer: None, written }
    }

    fn write(&mut self, batch: &[Record<T>]) -> Result<()> {
        let writer =
            self.writer.as_mut().ok_or_else(|| Error::internal("a sink is written before it is open"))?;
        self.cx.enter();
        for record in batch.iter() {
            self.cx.record(record);
            writer.write(&record.value, record.event_time())?;
        }
        self.written.add(batch.len() as u64);
        Ok(())
    }
}

impl<T, S: TransactionalSink<T>> Receiver<T> for SinkStep<T, S> {
    fn records(&mut self, batch: &mut Vec<Record<T>>) {
        let written = self.write(batch);
        self.cx.or_fail(written);
    }

    fn watermark(&mut self, _: WatermarkUpdate) {}
}

impl<T: 'static, S: TransactionalSink<T>> Operator for SinkStep<T, S> {
    fn open(&mut self, context: &OpenContext<'_>) -> Result<()> {
        let (slot, setup) = (context.worker.slot, &context.process.setup);
        let working = setup.working.staged(setup.attempt);
        let sink = SinkId { job: setup.job, uid: self.step.uid() };
        let place =
            SinkPlace::new(sink, (slot, setup.attempt), &working, context.worker.staged_files.clone());
        // No record is being processed: the last position of the operator chain does not apply here.
        self.cx.enter_apart();
        let writer = catch(|| self.sink.writer(place)).context(|| format!("step '{}'", self.step.name()))?;
        self.writer = Some(writer);
        Ok(())
    }

    fn barrier(&mut self, epoch: Epoch, parts: &mut SnapshotParts) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        self.cx.enter_apart();
        let staged = catch(|| writer.stage(epoch));
        let staged = staged.context(|| format!("step '{}', end of epoch {epoch}", self.step.name()))?;
        parts.stagings.extend(staged.map(|staging| (self.step.clone(), staging)));
        Ok(())
    }
}
