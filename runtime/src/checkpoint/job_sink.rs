//! A sink of the job, as those parts see it that publish.

use std::sync::Arc;

use tidegate_connector_api::{Publisher, SinkTarget, StagedOutput};
use tidegate_protocol::{ErrorContext, Manifest, Result, Slot};

use super::staged_files::StagedFiles;
use crate::panics::catch;
use crate::step::Step;

/// The publishing side of a sink, whatever the type of its records is.
pub(crate) trait PublishedSink: Send + Sync {
    fn uri(&self) -> Result<String>;
    fn target(&self) -> Result<Box<dyn SinkTarget>>;
    fn publisher(&self, slot: Slot) -> Result<Box<dyn Publisher>>;
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

    pub(super) fn target(&self) -> Result<Box<dyn SinkTarget>> {
        catch(|| self.sink.target()).context(|| format!("sink '{}'", self.uid()))
    }

    pub(super) fn publisher(&self, slot: Slot) -> Result<Box<dyn Publisher>> {
        catch(|| self.sink.publisher(slot))
            .context(|| format!("sink '{}', publisher of slot {slot}", self.uid()))
    }

    /// Publishes what a snapshot holds of a slot.
    pub(super) fn publish(
        &self,
        publisher: &mut dyn Publisher,
        slot: Slot,
        snapshot: &Snapshot,
        files: &StagedFiles,
    ) -> Result<()> {
        let Snapshot { manifest, is_restored } = snapshot;
        let uid = self.uid();
        let ours = manifest.staged().filter(|(of, staged)| *of == uid && staged.slot == slot);
        let outputs: Vec<_> =
            ours.map(|(_, staged)| StagedOutput::new(staged, *is_restored, files)).collect();
        catch(|| publisher.publish(manifest.epoch, &outputs))
            .context(|| format!("publish epoch {} of '{uid}', slot {slot}", manifest.epoch))
    }
}

/// A snapshot whose output is to be published.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) manifest: Arc<Manifest>,
    pub(super) is_restored: bool,
}
