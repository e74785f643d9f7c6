//! The hosts of the cluster, each with its daemon, and where everything lies.

use crate::cluster::brokers::{self, StormBrokers};
use crate::cluster::client::Client;
use crate::cluster::clock::Clock;
use crate::cluster::daemon::Daemon;
use crate::cluster::facilities::Facilities;
use crate::cluster::network::{self, Network};
use crate::cluster::options::{Programs, StormOptions};
use crate::cluster::processes::{self, Pid};
use crate::cluster::store::Store;
use crate::failure::{Context, Failure, Result};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A host: a daemon, and what belongs to the host alone.
pub struct Host {
    /// What people and the network call it.
    pub name: String,
    /// Where others reach it.
    pub address: String,
    /// The jobmanager or a taskmanager.
    pub daemon: Daemon,
    /// Its data directory.
    pub data: PathBuf,
    /// Its clock, if it has one of its own.
    pub clock: Option<Clock>,
}

impl Host {
    /// The job processes on it.
    pub fn job_processes(&self) -> Vec<Pid> {
        processes::executed_under(&self.data)
    }
}

/// A cluster.
pub struct Members {
    /// The host of the jobmanager.
    pub jobmanager: Host,
    /// The hosts of taskmanagers.
    pub taskmanagers: Vec<Host>,
    /// The brokers, if jobs read and write topics.
    pub brokers: Option<StormBrokers>,
    /// The network between all of them, if there is one.
    pub network: Option<Network>,
    /// The checkpoint store.
    pub store: Store,
    /// For its users.
    pub client: Client,
}

/// What all daemons are started with.
struct Common<'a> {
    tidegate: &'a Path,
    root: &'a Path,
    secret: PathBuf,
    jobmanager: String,
    away: String,
}

impl Members {
    /// Starts a cluster in `root`.
    pub fn start(
        root: &Path,
        programs: &Programs,
        options: &StormOptions,
        facilities: &Facilities,
    ) -> Result<Members> {
        let root = root.canonicalize().context("cannot find the directory of the cluster")?;
        fs::create_dir_all(root.join("log")).context("cannot create the directory for logs")?;
        let has_network = facilities.namespaces.is_ok();
        let address =
            |number: u32| if has_network { format!("10.213.0.{number}") } else { "127.0.0.1".into() };
        let named =
            |number: u32| if number == 0 { "jobmanager".to_owned() } else { format!("taskmanager-{number}") };
        let hosts: Vec<(String, String)> =
            (0..=options.taskmanagers).map(|number| (named(number), address(number + 1))).collect();
        let mut all = hosts.clone();
        if options.kafka {
            all.extend(
                [(1, brokers::HOST), (2, brokers::READER)]
                    .map(|(number, name)| (name.to_owned(), address(options.taskmanagers + 1 + number))),
            );
        }
        let network = has_network.then(|| Network::new(&all)).transpose()?;
        let of_brokers = has_network.then(|| address(options.taskmanagers + 2));
        let start = || StormBrokers::start(of_brokers.as_deref(), options.brokers as usize);
        let brokers = options.kafka.then(start).transpose()?;
        let port = if has_network { 8081 } else { free_port()? };
        let common = Common {
            tidegate: &programs.tidegate,
            root: &root,
            secret: secret(&root, options.seed)?,
            jobmanager: format!("{}:{port}", hosts[0].1),
            away: format!("{}s", options.away),
        };
        let store = Store::new(&root.join("store"), facilities.small_disk.is_ok())?;
        let mut members = Vec::new();
        for (number, (name, address)) in hosts.iter().enumerate() {
            let clock = facilities.clocks.as_ref().ok();
            let clock = clock.map(|library| Clock::new(&root, name, library)).transpose()?;
            let data = root.join(name);
            let mut command = common.command(has_network.then_some(name));
            if number == 0 {
                command.args(["jobmanager", "--listen", &common.jobmanager]);
                command.arg("--checkpoint-store").arg(store.dir());
            } else {
                command.args(["taskmanager", "--listen", address, "--address", address]);
                command.args(["--slots", &options.slots.to_string()]);
            }
            command.arg("--data").arg(&data);
            if let Some(clock) = &clock {
                clock.apply(&mut command);
            }
            let daemon = Daemon::new(name, command, root.join("log").join(format!("{name}.log")));
            members.push(Host { name: name.clone(), address: address.clone(), daemon, data, clock });
        }
        members.iter_mut().try_for_each(|host| host.daemon.start())?;
        let jobmanager = members.remove(0);
        let client = Client { command: common.client(has_network.then_some(&jobmanager.name)) };
        Ok(Members { jobmanager, taskmanagers: members, brokers, network, store, client })
    }

    /// All hosts, that of the jobmanager first.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        std::iter::once(&self.jobmanager).chain(&self.taskmanagers)
    }

    /// The same, to be changed.
    pub fn hosts_mut(&mut self) -> impl Iterator<Item = &mut Host> {
        std::iter::once(&mut self.jobmanager).chain(&mut self.taskmanagers)
    }

    /// All processes of jobs, whatever their attempt.
    pub fn job_processes(&self) -> Vec<Pid> {
        self.taskmanagers.iter().flat_map(Host::job_processes).collect()
    }

    /// Starts the daemons that do not run.
    pub fn start_all(&mut self) -> Result<()> {
        self.hosts_mut().try_for_each(|host| host.daemon.start())
    }

    /// Undoes whatever a fault has left: after a failure, so that the cluster can be asked what it sees.
    pub fn calm(&mut self) {
        let _ = self.store.show();
        let names: Vec<String> = self.hosts().map(|host| host.name.clone()).collect();
        if let Some(network) = &self.network {
            names.iter().for_each(|name| drop(network.heal(name)));
            if self.brokers.is_some() {
                let _ = network.heal(brokers::HOST);
            }
        }
        for pid in self.job_processes() {
            processes::signal(pid, libc::SIGCONT);
        }
        self.hosts_mut().for_each(|host| host.daemon.resume());
        for (brokers, node) in
            self.brokers.iter().flat_map(|brokers| brokers.all().map(move |node| (brokers, node)))
        {
            let _ = brokers.resume(node);
        }
    }

    /// The brokers, for a fault of theirs.
    pub fn brokers(&self) -> Result<&StormBrokers> {
        self.brokers.as_ref().ok_or_else(|| Failure::new("this storm has no brokers"))
    }

    /// Ends all daemons as their users do. Those that do not end upon SIGTERM are a finding.
    pub fn end(&mut self) -> Result<()> {
        let mut stubborn = Vec::new();
        for host in self.taskmanagers.iter_mut().chain([&mut self.jobmanager]) {
            if !host.daemon.end() {
                stubborn.push(host.name.clone());
            }
        }
        if stubborn.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("{} did not end upon SIGTERM", stubborn.join(", "))))
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.hosts_mut().for_each(|host| host.daemon.kill());
        for pid in self.job_processes() {
            processes::signal(pid, libc::SIGKILL);
        }
    }
}

impl Common<'_> {
    fn command(&self, namespace: Option<&String>) -> Command {
        tidegate(self.tidegate, namespace, &self.jobmanager, &self.secret, (self.root, &self.away))
    }

    fn client(&self, namespace: Option<&String>) -> Box<dyn Fn() -> Command> {
        let (program, namespace) = (self.tidegate.to_path_buf(), namespace.cloned());
        let (jobmanager, secret, root) =
            (self.jobmanager.clone(), self.secret.clone(), self.root.to_path_buf());
        let away = self.away.clone();
        Box::new(move || tidegate(&program, namespace.as_ref(), &jobmanager, &secret, (&root, &away)))
    }
}

/// `tidegate` on a host. It runs in the directory of the storm: no configuration file of this machine is to be read.
fn tidegate(
    program: &Path,
    namespace: Option<&String>,
    jobmanager: &str,
    secret: &Path,
    (root, away): (&Path, &str),
) -> Command {
    let mut command = match namespace {
        Some(host) => {
            let mut command = network::in_namespace(host);
            command.arg(program);
            command
        }
        None => Command::new(program),
    };
    command.current_dir(root).env("TIDEGATE_CONFIG", root.join("tidegate.toml"));
    command.env("TIDEGATE_JOBMANAGER", jobmanager).env("TIDEGATE_SECRET_FILE", secret);
    command.env("TIDEGATE_TIMEOUTS_AWAY", away);
    command
}

/// A secret of this cluster alone; and the configuration file, which says nothing.
fn secret(root: &Path, seed: u64) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let mut rng = crate::rng::Rng::new(seed);
    let path = root.join("secret");
    fs::write(&path, format!("{:016x}{:016x}\n", rng.any(), rng.any())).context("cannot write the secret")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).context("cannot protect the secret")?;
    fs::write(root.join("tidegate.toml"), "").context("cannot write the configuration file")?;
    Ok(path)
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on the loopback interface")?;
    Ok(listener.local_addr().context("a socket without address")?.port())
}
