//! The publishers of a process: one a sink.

use std::collections::BTreeMap;

use tidegate_protocol::{Epoch, Manifest};

use super::Watcher;
use super::plan::Plan;
use crate::connector::Publisher;
use crate::panics::catch;
use tidegate_failpoint::point;
use tidegate_protocol::{Error, ErrorContext, Result};

/// The publishers of all sinks, by uid.
pub(crate) struct Publishers(BTreeMap<String, Box<dyn Publisher>>);

impl Publishers {
    /// Opens them, publishes what the restored snapshot holds, and clears away what older attempts have left.
    /// What is `published` already may have been taken away by whoever reads it.
    pub(crate) fn open(
        plan: &Plan,
        restored: Option<&Manifest>,
        published: Epoch,
        watcher: &mut dyn Watcher,
    ) -> Result<Self> {
        let mut all = BTreeMap::new();
        for (uid, sink) in &plan.sinks {
            let publisher = catch(|| sink.publisher()).context(|| format!("sink '{uid}'"))?;
            all.insert(uid.clone(), publisher);
        }
        let mut publishers = Self(all);
        if let Some(manifest) = restored.filter(|m| m.epoch > published) {
            publishers.publish(manifest)?;
        }
        for (uid, publisher) in &mut publishers.0 {
            let taken_back = catch(|| publisher.recover(restored.map(|m| m.epoch)));
            let taken_back = taken_back.context(|| format!("sink '{uid}'"))?;
            if !taken_back.is_empty() {
                watcher.note(&format!("sink '{uid}' has taken back {}", taken_back.join(", ")));
            }
        }
        Ok(publishers)
    }

    /// Makes all of a complete snapshot's output visible.
    pub(crate) fn publish(&mut self, manifest: &Manifest) -> Result<()> {
        point("publish.before");
        for (uid, staged) in manifest.staged() {
            let publisher = self.0.get_mut(uid).ok_or_else(|| {
                Error::internal(format!("the snapshot has output of the unknown sink '{uid}'"))
            })?;
            catch(|| publisher.publish(staged))
                .context(|| format!("publish epoch {} of '{uid}'", staged.epoch))?;
        }
        point("publish.after");
        Ok(())
    }
}
