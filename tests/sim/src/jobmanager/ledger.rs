//! The thread of the ledger: it takes the records that wait, makes them durable together, and reports them in order.

use tidegate_control::cluster::{ClusterInput, Record};

use crate::happening::Happening;
use crate::queue::Event;
use crate::show;
use crate::world::World;

impl World {
    pub(super) fn propose(&mut self, record: Record) {
        if let Some(jobmanager) = &mut self.jobmanager {
            jobmanager.proposed.push_back(record);
        }
        self.write_ledger();
    }

    /// Begins to write what waits, if nothing is being written.
    fn write_ledger(&mut self) {
        let Some(jobmanager) = &mut self.jobmanager else { return };
        if jobmanager.writing.is_empty() && !jobmanager.proposed.is_empty() {
            jobmanager.writing = jobmanager.proposed.drain(..).collect();
            let life = jobmanager.life;
            let takes = if self.now < self.ledger_slow_until { 3_000 } else { 20 };
            let takes = self.random.between(1, takes);
            self.after(takes, Event::LedgerDurable { life });
        }
    }

    pub(crate) fn ledger_durable(&mut self, life: u64) {
        if !self.is_life(life) || self.dies_at_write() {
            return;
        }
        let records = self.jobmanager.as_ref().map(|j| j.writing.clone()).unwrap_or_default();
        for record in records {
            self.note(format_args!("durable: {}", show::record(&record)));
            let before = self.ledger.jobs.get(&record.job()).cloned();
            self.ledger.apply(&record);
            if before.as_ref() != self.ledger.jobs.get(&record.job()) {
                self.happened.push(Happening::Durable(record));
            }
        }
        if self.dies_at_write() {
            return;
        }
        let takes = self.random.delay(2, 300, 30);
        self.after(takes, Event::LedgerReports { life });
    }

    pub(crate) fn ledger_reports(&mut self, life: u64) {
        if !self.is_life(life) {
            return;
        }
        let records = self.jobmanager.as_mut().map(|j| std::mem::take(&mut j.writing)).unwrap_or_default();
        records.into_iter().for_each(|record| self.brain(ClusterInput::Committed(record)));
        self.write_ledger();
    }
}
