//! What goes wrong in a storm, one fault after the other.

use tidegate_protocol::link::Report;
use tidegate_protocol::process::FromJobProcess;
use tidegate_protocol::{Error, JobId};

use crate::config::Kind;
use crate::happening::Happening;
use crate::jobmanager::LEASE_MS;
use crate::queue::Event;
use crate::world::World;

impl World {
    pub(crate) fn fault(&mut self) {
        if self.is_healed {
            return;
        }
        let next = 1 + self.random.below(2 * self.config.fault_every);
        self.after(next, Event::Fault);
        let kinds = self.config.faults.clone();
        if let Some(kind) = self.random.pick(&kinds) {
            self.happens(kind);
        }
    }

    fn happens(&mut self, kind: Kind) {
        let until = self.now + self.random.delay(1_500, 12_000, 250);
        match kind {
            Kind::ConnectionBreaks => {
                let connection = self.any_connection();
                connection.into_iter().for_each(|connection| self.break_connection(connection));
            }
            Kind::ConnectionStalls => self.connection_stalls(until),
            Kind::JobManagerDies => self.jobmanager_dies(),
            Kind::JobManagerStops => self.jobmanager_stops(until),
            Kind::TaskManagerDies => {
                let host = self.any_host();
                self.host_dies(host);
            }
            Kind::TaskManagerStops => {
                let host = self.any_host();
                self.host_stops(host, until);
            }
            Kind::HostStops => {
                let host = self.any_host();
                self.host_stops(host, until);
                let children: Vec<u32> = self.hosts[host].children.values().copied().collect();
                children.into_iter().for_each(|pid| self.process_stops(pid, until));
            }
            Kind::ProcessDies => {
                let pid = self.any_process();
                pid.into_iter().for_each(|pid| self.process_dies(pid, "was killed by signal 9"));
            }
            Kind::ProcessStops => {
                let pid = self.any_process();
                pid.into_iter().for_each(|pid| self.process_stops(pid, until));
            }
            Kind::StoreIsSlow => self.store.slow_until = until,
            Kind::StoreIsAway => {
                self.note(format_args!("the store is away until {until}"));
                self.store.away_until = until;
            }
            Kind::LedgerIsSlow => self.ledger_slow_until = until,
            Kind::Damage => self.damages(),
            Kind::JobFails => self.job_fails(),
        }
    }

    fn any_host(&mut self) -> usize {
        self.random.below(self.hosts.len() as u64) as usize
    }

    fn any_process(&mut self) -> Option<u32> {
        let pids: Vec<u32> = self.processes.values().filter(|p| p.is_alive).map(|p| p.pid).collect();
        self.random.pick(&pids)
    }

    fn any_connection(&mut self) -> Option<u64> {
        let numbers: Vec<u64> = self.network.connections.keys().copied().collect();
        self.random.pick(&numbers)
    }

    /// Nothing passes for some time; both sides notice if it is long.
    fn connection_stalls(&mut self, until: u64) {
        let Some(number) = self.any_connection() else { return };
        let now = self.now;
        self.note(format_args!("connection {number} stalls until {until}"));
        if let Some(connection) = self.network.get(number) {
            connection.stalled_until = until;
        }
        if until > now + LEASE_MS {
            self.after(LEASE_MS, Event::Breaks { connection: number });
        }
    }

    /// The jobmanager stops for some time; the taskmanagers notice if it is long.
    fn jobmanager_stops(&mut self, until: u64) {
        let Some(life) = self.jobmanager.as_ref().map(|jobmanager| jobmanager.life) else { return };
        self.note(format_args!("the jobmanager stops until {until}"));
        self.jobmanager_stopped_until = until;
        let ours = self.network.connections.iter().filter(|(_, c)| c.server_life == life);
        let ours: Vec<(u64, usize, u64)> = ours.map(|(number, c)| (*number, c.host, c.host_life)).collect();
        if until <= self.now + LEASE_MS {
            return;
        }
        for (connection, host, life) in ours {
            self.after(LEASE_MS, Event::HostNotices { host, life, connection });
        }
    }

    /// A taskmanager stops for some time; the jobmanager notices if it is long.
    fn host_stops(&mut self, host: usize, until: u64) {
        let id = self.hosts[host].id.clone();
        self.note(format_args!("{id} stops until {until}"));
        self.hosts[host].stopped_until = until;
        let life = self.jobmanager_life;
        if let Some(connection) = self.hosts[host].connection.filter(|_| until > self.now + LEASE_MS) {
            self.after(LEASE_MS, Event::ServerNotices { life, connection });
        }
    }

    fn process_stops(&mut self, pid: u32, until: u64) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.stopped_until = until;
            let name = process.name();
            self.note(format_args!("process {name} stops until {until}"));
        }
    }

    /// A file or the manifest of a job's newest snapshot is changed on its disk.
    fn damages(&mut self) {
        let jobs: Vec<JobId> = self.store.jobs.keys().copied().collect();
        let Some(job) = self.random.pick(&jobs) else { return };
        let takes_manifest = self.random.chance(400);
        let Some(store) = self.store.jobs.get_mut(&job) else { return };
        // With nothing to fall back to, the job cannot go on, which is not interesting often.
        if store.manifests.len() < 2 {
            return;
        }
        let Some((epoch, newest)) = store.manifests.iter_mut().next_back() else { return };
        let epoch = *epoch;
        let files: Vec<String> = newest.manifest.store_files().map(|file| file.path.clone()).collect();
        let mut epochs = [epoch].into();
        let what = match self.random.pick(&files).filter(|_| !takes_manifest) {
            Some(path) => {
                epochs = store.damage(&path);
                path
            }
            None => {
                newest.is_damaged = true;
                "the manifest".to_owned()
            }
        };
        self.note(format_args!("{what} of epoch {epoch} is damaged, and by that {epochs:?}"));
        self.happened.push(Happening::Damaged { job, epochs });
    }

    /// A process reports an error of its job, another one every time.
    fn job_fails(&mut self) {
        // So often in a row that the job would fail for good is not interesting.
        if !self.random.chance(200) {
            return;
        }
        let Some(pid) = self.any_process() else { return };
        let error = Error::job(format!("a record is malformed, at {}", self.now));
        let Some(attempt) = self.processes.get(&pid).map(|process| process.id.attempt) else { return };
        let report = tidegate_protocol::link::ToDriver { attempt, report: Report::Failed(error) };
        self.note(format_args!("pid {pid} fails because of its job"));
        self.process_sends(pid, FromJobProcess::Report(report));
        self.process_dies(pid, "has failed");
    }
}
