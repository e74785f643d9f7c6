//! A sink on one worker: writes records to where nobody sees them, and ends a piece at every barrier.

use std::rc::Rc;
use std::sync::Arc;

use tidegate_protocol::Epoch;

use crate::chain::Receiver;
use crate::connector::{SinkPlace, TransactionalSink, Writer};
use crate::dataflow::host::Host;
use crate::element::{Element, Opening, Parts};
use crate::error::{Context, Error, Result, catch};
use crate::metrics::{Counter, Step};
use crate::operators::stateless::Here;
use crate::record::Rec;
use crate::watermark::Mark;

/// See [`crate::Stream::sink`].
pub(crate) struct SinkStep<T, S> {
    here: Here,
    step: Arc<Step>,
    sink: Rc<S>,
    writer: Option<Box<dyn Writer<T>>>,
    written: Counter,
}

impl<T, S: TransactionalSink<T>> SinkStep<T, S> {
    pub(crate) fn new(sink: Rc<S>, step: &Arc<Step>, host: Rc<Host>) -> Self {
        let written = host.counter(step, "records_out");
        Self { here: Here::new(&host, step), step: step.clone(), sink, writer: None, written }
    }

    fn write(&mut self, batch: &[Rec<T>]) -> Result<()> {
        let writer = self.writer.as_mut().ok_or_else(|| Error::us("a sink is written before it is open"))?;
        self.here.enter();
        for record in batch.iter() {
            self.here.record(record);
            writer.write(&record.val)?;
        }
        self.written.add(batch.len() as u64);
        Ok(())
    }
}

impl<T, S: TransactionalSink<T>> Receiver<T> for SinkStep<T, S> {
    fn records(&mut self, batch: &mut Vec<Rec<T>>) {
        let written = self.write(batch);
        self.here.or_fail(written);
    }

    fn watermark(&mut self, _: Mark) {}
}

impl<T: 'static, S: TransactionalSink<T>> Element for SinkStep<T, S> {
    fn open(&mut self, opening: &Opening<'_>) -> Result<()> {
        let place = SinkPlace { slot: opening.worker.slot, attempt: opening.process.attempt };
        // It is not at work on a record: what the host was doing last is not where this is.
        self.here.enter_apart();
        let writer = catch(|| self.sink.writer(place)).context(|| format!("step '{}'", self.step.name()))?;
        self.writer = Some(writer);
        Ok(())
    }

    fn barrier(&mut self, epoch: Epoch, parts: &mut Parts<'_>) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        self.here.enter_apart();
        let staged = catch(|| writer.stage(epoch));
        let staged = staged.context(|| format!("step '{}', end of epoch {epoch}", self.step.name()))?;
        parts.stagings.extend(staged.map(|staging| (self.step.clone(), staging)));
        Ok(())
    }
}
