//! The threads of the checkpoint store: a queue for every job, and a thread for every copy.

use std::sync::Arc;

use tidegate_control::cluster::{ClusterInput, CopyAction, NotWritten, SnapshotRead, StoreAction};
use tidegate_protocol::{Error, JobId, Manifest};

use crate::happening::Happening;
use crate::queue::Event;
use crate::store::JobStore;
use crate::world::World;

/// A copy under way.
#[derive(Clone, Debug)]
pub(super) struct Copying {
    job: JobId,
    action: CopyAction,
    /// The manifest that is copied, once it was read.
    manifest: Option<Arc<Manifest>>,
}

impl World {
    pub(super) fn add_store_action(&mut self, job: JobId, action: StoreAction) {
        let Some(jobmanager) = &mut self.jobmanager else { return };
        let actions = jobmanager.actions.entry(job).or_default();
        actions.push_back(action);
        if actions.len() == 1 {
            let life = jobmanager.life;
            let takes = self.store_delay();
            self.after(takes, Event::StoreActs { life, job });
        }
    }

    /// How long the checkpoint store takes for something.
    pub(crate) fn store_delay(&mut self) -> u64 {
        let most = if self.now < self.store.slow_until { 4_000 } else { 20 };
        self.random.between(1, most)
    }

    pub(crate) fn is_store_away(&self) -> bool {
        self.now < self.store.away_until
    }

    /// The first action of a queue is carried out.
    pub(crate) fn store_acts(&mut self, life: u64, job: JobId) {
        if !self.is_life(life) {
            return;
        }
        let first = self.jobmanager.as_ref().and_then(|j| j.actions.get(&job)?.front().cloned());
        let Some(action) = first else { return };
        let writes = !matches!(action, StoreAction::ReadSnapshot { .. });
        if writes && self.dies_at_write() {
            return;
        }
        let input = self.carry_out(job, &action);
        let rest = self.jobmanager.as_mut().and_then(|j| j.actions.get_mut(&job));
        let is_more = rest.is_some_and(|actions| {
            actions.pop_front();
            !actions.is_empty()
        });
        if writes && self.dies_at_write() {
            return;
        }
        if is_more {
            let takes = self.store_delay();
            self.after(takes, Event::StoreActs { life, job });
        }
        input.into_iter().for_each(|input| self.brain(input));
    }

    /// Carries an action out; returns what is reported.
    pub(super) fn carry_out(&mut self, job: JobId, action: &StoreAction) -> Option<ClusterInput> {
        let is_away = self.is_store_away();
        if let StoreAction::WriteManifest { manifest } = action {
            return Some(self.write_manifest(job, manifest, is_away));
        }
        let is_half = !self.is_healed && self.random.chance(20);
        let store = self.store.jobs.entry(job).or_default();
        if let StoreAction::ReadSnapshot { epoch } = action {
            let unavailable = || SnapshotRead::Unavailable("the store is away".to_owned());
            let read = if is_away { unavailable() } else { store.read(*epoch) };
            return Some(ClusterInput::SnapshotRead { job, epoch: *epoch, read });
        }
        if !is_away {
            let happened = tidy(store, job, action, is_half);
            self.happened.extend(happened);
        }
        None
    }

    fn write_manifest(&mut self, job: JobId, manifest: &Arc<Manifest>, is_away: bool) -> ClusterInput {
        let (is_there, is_full) = (self.random.chance(500), !self.is_healed && self.random.chance(15));
        let store = self.store.jobs.entry(job).or_default();
        let refused = |is_certain| Err(NotWritten { reason: "the store is away".to_owned(), is_certain });
        let result = match (is_away, is_full) {
            (true, _) => {
                if is_there {
                    self.happened.push(store.complete(job, manifest));
                }
                refused(false)
            }
            (false, true) => refused(true),
            (false, false) => {
                self.happened.push(store.complete(job, manifest));
                Ok(())
            }
        };
        ClusterInput::ManifestWritten { job, epoch: manifest.epoch, result }
    }

    pub(super) fn begin_copy(&mut self, job: JobId, action: CopyAction) {
        if let CopyAction::WriteSavepoint { operation, epoch, .. } = action {
            self.happened.push(Happening::SavepointRequested { job, operation, epoch });
        }
        let Some(jobmanager) = &mut self.jobmanager else { return };
        jobmanager.next_copy += 1;
        let (life, copy) = (jobmanager.life, jobmanager.next_copy);
        jobmanager.copies.insert(copy, Copying { job, action, manifest: None });
        let takes = self.store_delay();
        self.after(takes, Event::Copies { life, copy });
    }

    /// A copy reads its manifest, or has copied the files.
    pub(crate) fn copies(&mut self, life: u64, copy: u64) {
        let copying =
            self.jobmanager.as_ref().filter(|j| j.life == life).and_then(|j| j.copies.get(&copy).cloned());
        let Some(Copying { job, action, manifest }) = copying else { return };
        let input = match action {
            CopyAction::WriteSavepoint { operation, epoch, directory } => {
                let read = self.store.jobs.get(&job).map(|store| store.read(epoch));
                if let (None, Some(SnapshotRead::Read(manifest, _)), false) =
                    (&manifest, read, self.is_store_away())
                {
                    return self.copy_goes_on(life, copy, job, manifest);
                }
                let result = self.write_savepoint(job, manifest, &directory, operation);
                self.happened.push(Happening::SavepointEnded { copy });
                ClusterInput::SavepointWritten { job, operation, result }
            }
            CopyAction::Import { from, .. } => {
                let result = self.import(job, &from);
                ClusterInput::Imported { job, result }
            }
        };
        if let Some(jobmanager) = &mut self.jobmanager {
            jobmanager.copies.remove(&copy);
        }
        self.brain(input);
    }

    fn copy_goes_on(&mut self, life: u64, copy: u64, job: JobId, manifest: Arc<Manifest>) {
        self.happened.push(Happening::SavepointBegan { copy, job, manifest: manifest.clone() });
        if let Some(copying) = self.jobmanager.as_mut().and_then(|j| j.copies.get_mut(&copy)) {
            copying.manifest = Some(manifest);
        }
        let takes = self.random.delay(200, 6_000, 300);
        self.after(takes, Event::Copies { life, copy });
    }

    fn write_savepoint(
        &mut self,
        job: JobId,
        manifest: Option<Arc<Manifest>>,
        directory: &str,
        operation: u64,
    ) -> Result<String, Error> {
        let manifest = manifest.ok_or_else(|| Error::environment("the snapshot cannot be read"))?;
        if self.is_store_away() {
            return Err(Error::environment("the store is away"));
        }
        let store = self.store.jobs.entry(job).or_default();
        store.check(manifest.store_files()).map_err(Error::environment)?;
        let path = format!("{directory}/{operation}");
        self.store.savepoints.insert(path.clone(), manifest);
        Ok(path)
    }

    fn import(&mut self, job: JobId, from: &str) -> Result<Arc<Manifest>, Error> {
        if self.is_store_away() {
            return Err(Error::environment("the store is away"));
        }
        let missing = || Error::job(format!("{from} holds no snapshot"));
        let manifest = self.store.savepoints.get(from).cloned().ok_or_else(missing)?;
        let store = self.store.jobs.entry(job).or_default();
        store.published = manifest.epoch;
        store.files.extend(manifest.store_files().map(|file| (file.path.clone(), false)));
        self.happened.push(store.complete(job, &manifest));
        Ok(manifest)
    }
}

/// What only costs space or work if it is not done.
fn tidy(store: &mut JobStore, job: JobId, action: &StoreAction, is_half: bool) -> Vec<Happening> {
    match action {
        StoreAction::RemoveLeftovers { attempt, last_epoch } => {
            store.remove_leftovers(job, *attempt, *last_epoch)
        }
        StoreAction::SetAside { epoch } => {
            store.set_aside(*epoch);
            Vec::new()
        }
        StoreAction::Discard { attempt, epoch, slot } => store.discard(job, (*attempt, *slot, *epoch)),
        StoreAction::NotePublished { epoch } => {
            store.published = *epoch;
            Vec::new()
        }
        StoreAction::Collect { oldest } => store.collect(job, *oldest, is_half),
        _ => Vec::new(),
    }
}
