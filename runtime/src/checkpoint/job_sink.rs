//! A sink of the job, as those parts see it that publish.

use std::sync::Arc;

use tidegate_connector_api::{Owner, Publisher, SinkId, SinkTarget, StagedOutput};
use tidegate_protocol::{Epoch, ErrorContext, JobId, Result, Slot};

use super::staged_files::StagedFiles;
use super::staged_outputs::StagedBySink;
use crate::panics::catch;
use crate::step::Step;

/// The publishing side of a sink, whatever the type of its records is.
pub(crate) trait PublishedSink: Send + Sync {
    fn uri(&self) -> Result<String>;
    fn target(&self, owner: Owner) -> Result<Box<dyn SinkTarget>>;
    fn publisher(&self, sink: &SinkId, slot: Slot) -> Result<Box<dyn Publisher>>;
}

/// A sink of the job.
#[derive(Clone)]
pub(crate) struct JobSink {
    pub(crate) step: Arc<Step>,
    pub(crate) sink: Arc<dyn PublishedSink>,
}

impl JobSink {
    pub(super) fn uid(&self) -> String {
        self.step.uid()
    }

    pub(super) fn target(&self, owner: Owner) -> Result<Box<dyn SinkTarget>> {
        catch(|| self.sink.target(owner)).context(|| format!("sink '{}'", self.uid()))
    }

    pub(super) fn publisher(&self, job: JobId, slot: Slot) -> Result<Box<dyn Publisher>> {
        let id = SinkId { job, uid: self.uid() };
        catch(|| self.sink.publisher(&id, slot))
            .context(|| format!("sink '{}', publisher of slot {slot}", id.uid))
    }

    /// Makes the publisher of a slot, ready for the first epoch of a run.
    pub(super) fn prepared_publisher(
        &self,
        job: JobId,
        slot: Slot,
        restored: Option<Epoch>,
    ) -> Result<Box<dyn Publisher>> {
        let mut publisher = self.publisher(job, slot)?;
        let prepared = catch(|| publisher.prepare(restored));
        prepared.context(|| format!("sink '{}', publisher of slot {slot}", self.uid()))?;
        Ok(publisher)
    }

    /// Publishes what a snapshot holds of a slot's output.
    pub(super) fn publish(
        &self,
        publisher: &mut dyn Publisher,
        slot: Slot,
        publication: &Publication,
        files: &StagedFiles,
    ) -> Result<()> {
        let Publication { epoch, staged, is_restored } = publication;
        let uid = self.uid();
        let ours = staged.iter().filter(|(of, staged)| *of == uid && staged.slot == slot);
        let outputs: Vec<_> =
            ours.map(|(_, staged)| StagedOutput::new(staged, *is_restored, files)).collect();
        catch(|| publisher.publish(*epoch, &outputs))
            .context(|| format!("publish epoch {epoch} of '{uid}', slot {slot}"))
    }
}

/// The output of a complete snapshot, which is to be published.
#[derive(Clone)]
pub(super) struct Publication {
    pub(super) epoch: Epoch,
    pub(super) staged: StagedBySink,
    pub(super) is_restored: bool,
}
