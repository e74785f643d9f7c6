//! The publishers of a process: one a sink.

use std::collections::BTreeMap;

use tidegate_connector_api::Publisher;
use tidegate_failpoint::point;
use tidegate_protocol::{Epoch, Error, ErrorContext, Manifest, Result};

use crate::panics::catch;

/// The publishers of all sinks, by uid.
pub(crate) struct Publishers(BTreeMap<String, Box<dyn Publisher>>);

impl Publishers {
    /// Publishes what the restored snapshot holds, and clears away what older attempts have left. What is `published`
    /// already may have been taken away by whoever reads it. Returns what a user should know.
    pub(crate) fn recover(
        publishers: BTreeMap<String, Box<dyn Publisher>>,
        restored: Option<&Manifest>,
        published: Epoch,
    ) -> Result<(Self, Vec<String>)> {
        let mut publishers = Self(publishers);
        if let Some(manifest) = restored.filter(|m| m.epoch > published) {
            publishers.publish(manifest)?;
        }
        let mut notes = Vec::new();
        for (uid, publisher) in &mut publishers.0 {
            let taken_back = catch(|| publisher.recover(restored.map(|m| m.epoch)));
            let taken_back = taken_back.context(|| format!("sink '{uid}'"))?;
            if !taken_back.is_empty() {
                notes.push(format!("sink '{uid}' has taken back {}", taken_back.join(", ")));
            }
        }
        Ok((publishers, notes))
    }

    /// Makes all of a complete snapshot's output visible.
    pub(crate) fn publish(&mut self, manifest: &Manifest) -> Result<()> {
        point("publish.before");
        for (uid, staged) in manifest.staged() {
            let unknown = || Error::internal(format!("the snapshot has output of the unknown sink '{uid}'"));
            let publisher = self.0.get_mut(uid).ok_or_else(unknown)?;
            catch(|| publisher.publish(staged))
                .context(|| format!("publish epoch {} of '{uid}'", staged.epoch))?;
        }
        point("publish.after");
        Ok(())
    }
}
