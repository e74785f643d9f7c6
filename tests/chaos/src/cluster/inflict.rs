//! How each fault is carried out.
//!
//! A fault that lasts is over when it is undone; one that is an instant, at that instant. From there the time of the
//! recovery counts.

use crate::cluster::brokers;
use crate::cluster::fault::Fault;
use crate::cluster::members::Host;
use crate::cluster::network::Network;
use crate::cluster::operations;
use crate::cluster::processes::{self, Pid, signal};
use crate::cluster::round::Round;
use crate::cluster::schedule::Draw;
use crate::damage::{Damage, NOTICED};
use crate::failure::{Failure, Result};
use crate::rng::Rng;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// While the disk is full, room that comes free is taken this often.
const FILL_AGAIN: Duration = Duration::from_millis(100);
/// Clocks are set back by less than one of these many seconds.
const BACK: [u64; 3] = [10, 3_600, 40 * 86_400];
/// The longest time from the end of brokers to that of the rest, or between their starts.
const MOMENT: Duration = Duration::from_secs(3);
/// After a clock is right again, so long is watched.
const AFTER_CLOCK: Duration = Duration::from_secs(1);

/// A fault that is over.
pub struct Inflicted {
    /// What was done, for people.
    pub what: String,
    /// When it was over.
    pub over: SystemTime,
    /// How long the recovery has taken, if that was seen before it was over.
    pub recovered: Option<Duration>,
}

impl Inflicted {
    /// Over just now.
    pub fn now(what: String) -> Inflicted {
        Inflicted { what, over: SystemTime::now(), recovered: None }
    }
}

/// Carries out what was drawn.
pub fn inflict(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    match draw.fault {
        Fault::KillProcess | Fault::KillTaskmanager | Fault::KillJobmanager => {
            let over = await_from_now(round);
            let what = kill(round, draw.fault, draw.dice[0], draw.down)?;
            Ok(Inflicted { over, ..Inflicted::now(what) })
        }
        Fault::KillHost => kill_host(round, draw),
        Fault::KillAll => kill_all(round, draw),
        Fault::PauseProcess => pause_process(round, draw),
        Fault::PauseTaskmanager | Fault::PauseJobmanager | Fault::PauseHost => pause_host(round, draw),
        Fault::Partition | Fault::PartitionOneWay => partition(round, draw),
        Fault::PacketLoss => packet_loss(round, draw),
        Fault::FullDisk => full_disk(round, draw),
        Fault::StoreAway => store_away(round, draw),
        Fault::Damage => damage(round, draw),
        Fault::ClockBack => clock_back(round, draw),
        Fault::Rescale => operations::rescale(round, draw),
        Fault::Savepoint => operations::savepoint(round, draw),
        Fault::Stop => operations::stop(round, draw),
        Fault::KillBroker => kill_broker(round, draw),
        Fault::PauseBroker => pause_broker(round, draw),
        Fault::PartitionBroker => partition_broker(round, draw),
        Fault::Outage => outage(round, draw),
    }
}

/// The recovery counts from now on, while the fault still goes on.
fn await_from_now(round: &mut Round<'_>) -> SystemTime {
    let now = SystemTime::now();
    round.auditor.await_epoch(now);
    now
}

/// kill -9 of one process; a daemon is started again after `down`.
pub fn kill(round: &mut Round<'_>, fault: Fault, dice: u64, down: Duration) -> Result<String> {
    let host = match fault {
        Fault::KillProcess => {
            let pid = some_process(round, dice)?;
            signal(pid, libc::SIGKILL);
            return Ok(format!("kill -9 of job process {pid}"));
        }
        Fault::KillJobmanager => &mut round.members.jobmanager,
        _ => some_taskmanager(round, dice),
    };
    host.daemon.kill();
    let name = host.name.clone();
    round.hold(down)?;
    round.members.start_all()?;
    Ok(format!("kill -9 of {name}, away for {:.1} s", down.as_secs_f64()))
}

fn kill_host(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    let over = await_from_now(round);
    let host = some_taskmanager(round, draw.dice[0]);
    host.daemon.kill();
    host.job_processes().into_iter().for_each(|pid| signal(pid, libc::SIGKILL));
    let name = host.name.clone();
    let slots_left = round.options.slots_total() - round.options.slots;
    if slots_left < round.parallelism {
        round.hold(draw.down)?;
        round.members.start_all()?;
        return Ok(Inflicted { over, ..Inflicted::now(format!("loss of {name}, which is needed")) });
    }
    let recovered = round.recovered(over)?;
    round.members.start_all()?;
    let what = format!("loss of {name}, which comes back when the job runs elsewhere");
    Ok(Inflicted { recovered: Some(recovered), ..Inflicted::now(what) })
}

fn kill_all(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    let mut pids = round.members.job_processes();
    pids.extend(round.members.hosts_mut().filter_map(|host| host.daemon.pid()));
    let over = await_from_now(round);
    pids.iter().for_each(|pid| signal(*pid, libc::SIGKILL));
    round.members.hosts_mut().for_each(|host| host.daemon.kill());
    round.hold(draw.down)?;
    round.members.start_all()?;
    Ok(Inflicted { over, ..Inflicted::now(format!("kill -9 of all {} processes", pids.len())) })
}

// ------------------------------------------------------------ pauses

fn pause_process(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    let pid = some_process(round, draw.dice[0])?;
    signal(pid, libc::SIGSTOP);
    let held = round.hold(draw.span);
    // Its taskmanager may have killed it meanwhile; then its number may be another's, to whom SIGCONT does nothing.
    signal(pid, libc::SIGCONT);
    held?;
    Ok(Inflicted::now(format!("job process {pid} paused for {:.1} s", draw.span.as_secs_f64())))
}

fn pause_host(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    let host = match draw.fault {
        Fault::PauseJobmanager => &mut round.members.jobmanager,
        _ => some_taskmanager(round, draw.dice[0]),
    };
    let pids = if draw.fault == Fault::PauseHost { host.job_processes() } else { Vec::new() };
    host.daemon.pause();
    pids.iter().for_each(|pid| signal(*pid, libc::SIGSTOP));
    let name = host.name.clone();
    let held = round.hold(draw.span);
    pids.iter().for_each(|pid| signal(*pid, libc::SIGCONT));
    round.members.hosts_mut().filter(|host| host.name == name).for_each(|host| host.daemon.resume());
    held?;
    let with = if pids.is_empty() { String::new() } else { format!(" with {} job processes", pids.len()) };
    Ok(Inflicted::now(format!("{name}{with} paused for {:.1} s", draw.span.as_secs_f64())))
}

// ------------------------------------------------------------ the network

fn partition(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    let hosts: Vec<(String, String)> =
        round.members.hosts().map(|host| (host.name.clone(), host.address.clone())).collect();
    let count = hosts.len() as u64;
    let from = draw.dice[0] % count;
    let to = (from + 1 + draw.dice[1] % (count - 1)) % count;
    let (from, to) = (&hosts[from as usize], &hosts[to as usize]);
    let both = draw.fault == Fault::Partition;
    network(round)?.cut(&from.1, &to.0)?;
    if both {
        network(round)?.cut(&to.1, &from.0)?;
    }
    round.hold(draw.span)?;
    network(round)?.heal(&from.0)?;
    network(round)?.heal(&to.0)?;
    let way = if both { "between" } else { "one way, from" };
    let and = if both { "and" } else { "to" };
    let seconds = draw.span.as_secs_f64();
    Ok(Inflicted::now(format!("no packets {way} {} {and} {} for {seconds:.1} s", from.0, to.0)))
}

fn packet_loss(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    let hosts: Vec<String> = round.members.hosts().map(|host| host.name.clone()).collect();
    let host = &hosts[(draw.dice[0] % hosts.len() as u64) as usize];
    let percent = 5 + draw.dice[1] % 36;
    network(round)?.lose(host, percent)?;
    round.hold(draw.span)?;
    network(round)?.heal(host)?;
    let seconds = draw.span.as_secs_f64();
    Ok(Inflicted::now(format!("{host} loses {percent} % of its packets for {seconds:.1} s")))
}

fn network<'a>(round: &'a Round<'_>) -> Result<&'a Network> {
    round.members.network.as_ref().ok_or_else(|| Failure::new("there is no network between these hosts"))
}

// ------------------------------------------------------------ brokers

fn kill_broker(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    let node = round.members.brokers()?.choose(draw.dice[0]);
    round.members.brokers()?.kill(node)?;
    round.hold(draw.span)?;
    round.members.brokers()?.restart(node)?;
    let started = brokers_answer(round)?;
    let seconds = draw.span.as_secs_f64();
    let what = format!("kill -9 of broker {node}, away for {seconds:.1} s, and {started:.1} s for its start");
    Ok(Inflicted::now(what))
}

fn pause_broker(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    let node = round.members.brokers()?.choose(draw.dice[0]);
    round.members.brokers()?.pause(node)?;
    let held = round.hold(draw.span);
    round.members.brokers()?.resume(node)?;
    held?;
    Ok(Inflicted::now(format!("broker {node} paused for {:.1} s", draw.span.as_secs_f64())))
}

/// Of one taskmanager, or in one case of three of all.
fn partition_broker(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    let brokers = round.members.brokers()?.address.clone();
    let is_of_all = draw.dice[1].is_multiple_of(3);
    let chosen: Vec<(String, String)> = if is_of_all {
        round.members.taskmanagers.iter().map(|host| (host.name.clone(), host.address.clone())).collect()
    } else {
        let host = some_taskmanager(round, draw.dice[0]);
        vec![(host.name.clone(), host.address.clone())]
    };
    for (name, address) in &chosen {
        network(round)?.cut(address, brokers::HOST)?;
        network(round)?.cut(&brokers, name)?;
    }
    round.hold(draw.span)?;
    network(round)?.heal(brokers::HOST)?;
    chosen.iter().try_for_each(|(name, _)| network(round)?.heal(name))?;
    let who = if is_of_all { "all taskmanagers" } else { &chosen[0].0 };
    let seconds = draw.span.as_secs_f64();
    Ok(Inflicted::now(format!("no packets between the brokers and {who} for {seconds:.1} s")))
}

/// kill -9 of everything. Where brokers die first the job completes a snapshot whose output it cannot publish.
fn outage(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    let [first, delay, back_first, _] = draw.dice;
    let (brokers_first, brokers_back_first) = (first.is_multiple_of(2), back_first.is_multiple_of(2));
    if brokers_first {
        kill_brokers(round)?;
        round.hold(MOMENT.mul_f64((delay % 1_000) as f64 / 1_000.0))?;
    }
    let mut pids = round.members.job_processes();
    pids.extend(round.members.hosts_mut().filter_map(|host| host.daemon.pid()));
    pids.iter().for_each(|pid| signal(*pid, libc::SIGKILL));
    round.members.hosts_mut().for_each(|host| host.daemon.kill());
    if !brokers_first {
        kill_brokers(round)?;
    }
    round.hold(draw.span)?;
    if brokers_back_first {
        restart_brokers(round)?;
        round.hold(MOMENT.mul_f64((back_first % 1_000) as f64 / 1_000.0))?;
    }
    round.members.start_all()?;
    if !brokers_back_first {
        restart_brokers(round)?;
    }
    let started = brokers_answer(round)?;
    let (order, count) = (if brokers_first { "first" } else { "last" }, pids.len());
    let seconds = draw.span.as_secs_f64();
    let what = format!(
        "kill -9 of all {count} processes and the brokers, these {order}, away for {seconds:.1} s, {started:.1} s until the brokers answer"
    );
    Ok(Inflicted::now(what))
}

/// Waits until the brokers answer; returns the seconds. Java takes its time to start, which is not the job's.
fn brokers_answer(round: &Round<'_>) -> Result<f64> {
    let topics = &round.members.brokers()?.topics;
    Ok(topics.await_brokers(2 * round.options.patience())?.as_secs_f64())
}

fn kill_brokers(round: &Round<'_>) -> Result<()> {
    let brokers = round.members.brokers()?;
    brokers.all().try_for_each(|node| brokers.kill(node))
}

fn restart_brokers(round: &Round<'_>) -> Result<()> {
    let brokers = round.members.brokers()?;
    brokers.all().try_for_each(|node| brokers.restart(node))
}

// ------------------------------------------------------------ the checkpoint store

fn full_disk(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    round.members.store.fill()?;
    let until = SystemTime::now() + draw.span;
    while SystemTime::now() < until {
        round.hold(FILL_AGAIN)?;
        round.members.store.fill_up()?;
    }
    round.members.store.make_room()?;
    Ok(Inflicted::now(format!("the store's disk is full for {:.1} s", draw.span.as_secs_f64())))
}

fn store_away(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    round.members.store.hide()?;
    round.hold(draw.span)?;
    round.members.store.show()?;
    Ok(Inflicted::now(format!("the store is away for {:.1} s", draw.span.as_secs_f64())))
}

/// Damages the newest snapshot while everything is held, and kills the job's processes, so that it is restored from.
///
/// The job falls back to an older snapshot, if there is one without the damage. If there is none it must refuse; then the
/// file is put back.
fn damage(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    let checkpoints = PathBuf::from(round.info()?.checkpoint_directory);
    let noticed_before = notices(round);
    let pids = round.members.job_processes();
    round.members.jobmanager.daemon.pause();
    pids.iter().for_each(|pid| signal(*pid, libc::SIGSTOP));
    // What is published later may be taken back.
    let seen = round.auditor.glance();
    let staging = [round.bench.output.as_path(), round.bench.dead_letters.as_path()];
    let damaged = Damage::newest(&checkpoints, &staging, &mut Rng::new(draw.dice[0]));
    let over = SystemTime::now();
    pids.iter().for_each(|pid| signal(*pid, libc::SIGKILL));
    round.members.jobmanager.daemon.resume();
    seen?;
    let Some(damaged) = damaged? else {
        return Ok(Inflicted {
            over,
            ..Inflicted::now("no snapshot to damage; job processes killed".into())
        });
    };
    let healed = if damaged.is_avoidable(&checkpoints) {
        round.recovered_unseen(over).map(|_| "fell back")
    } else {
        fell_back_or_refused(round, &damaged, &checkpoints, over)
    };
    round.auditor.forget();
    let what = format!("job killed, {damaged}");
    let how = healed.map_err(|failure| Failure::new(format!("{what}: {failure}")))?;
    if notices(round) <= noticed_before {
        return Err(Failure::new(format!("nobody notices a damaged snapshot: {damaged}")));
    }
    Ok(Inflicted { over, ..Inflicted::now(format!("{what}; {how}")) })
}

fn fell_back_or_refused(
    round: &mut Round<'_>,
    damaged: &Damage,
    checkpoints: &Path,
    over: SystemTime,
) -> Result<&'static str> {
    let noticed = notices(round);
    let patience = round.options.patience();
    let mut is_over = false;
    processes::wait(patience, || {
        is_over = round.members.client.info(&round.job).is_some_and(|info| info.is_over());
        is_over || notices(round) > noticed || round.auditor.has_published_since(over).unwrap_or(true)
    });
    if round.auditor.has_published_since(over)? {
        return Ok("fell back");
    }
    damaged.repair()?;
    let repaired = SystemTime::now();
    // It may be about to give up, or have found another snapshot.
    if is_over
        || round.info_when(|info| info.is_over() || info.state == "RUNNING").is_some_and(|i| i.is_over())
    {
        round.submit(Some(&checkpoints.to_string_lossy()))?;
    }
    round.recovered_unseen(repaired)?;
    Ok("refused until the file was put back")
}

/// How many lines of all logs speak of a damage.
fn notices(round: &Round<'_>) -> usize {
    let mut logs: Vec<PathBuf> = round.members.hosts().map(|host| host.daemon.log.clone()).collect();
    logs.extend(round.members.taskmanagers.iter().flat_map(|host| job_logs(host, &round.job)));
    let speaks = |line: &&str| NOTICED.iter().any(|word| line.to_lowercase().contains(word));
    logs.iter()
        .map(|log| {
            let text = std::fs::read(log).unwrap_or_default();
            String::from_utf8_lossy(&text).lines().filter(speaks).count()
        })
        .sum()
}

/// The logs of a job's processes on a host, the newest last.
pub fn job_logs(host: &Host, job: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(host.data.join("logs").join(job)).into_iter().flatten().flatten();
    let mut logs: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    logs.sort_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok());
    logs
}

// ------------------------------------------------------------ clocks

/// The job goes on while clocks are wrong, and when they are right again.
fn clock_back(round: &mut Round<'_>, draw: &Draw) -> Result<Inflicted> {
    let limit = BACK[(draw.dice[0] % BACK.len() as u64) as usize];
    let seconds = 1 + draw.dice[1] % limit;
    let count = round.members.hosts().count() as u64;
    // One host, or in one case of as many all of them.
    let chosen = draw.dice[2] % (count + 1);
    set_clocks(round, chosen, -(seconds as i64))?;
    let since = await_from_now(round);
    let held = round.hold(draw.span).and_then(|()| round.recovered(since));
    set_clocks(round, chosen, 0)?;
    let recovered = held?;
    let over = SystemTime::now();
    round.hold(AFTER_CLOCK)?;
    let name =
        round.members.hosts().nth(chosen as usize).map_or("all hosts".into(), |host| host.name.clone());
    let (what, recovered) = (format!("the clock of {name} is set back by {seconds} s"), Some(recovered));
    Ok(Inflicted { what, over, recovered })
}

fn set_clocks(round: &Round<'_>, chosen: u64, seconds: i64) -> Result<()> {
    let count = round.members.hosts().count() as u64;
    let is_chosen = |number: usize| chosen == count || chosen == number as u64;
    let mut hosts = round.members.hosts().enumerate().filter(|(number, _)| is_chosen(*number));
    hosts.try_for_each(|(_, host)| host.clock.as_ref().map_or(Ok(()), |clock| clock.set(seconds)))
}

// ------------------------------------------------------------ targets

/// In three cases of four one that runs a part of the job, if there is one.
fn some_taskmanager<'a>(round: &'a mut Round<'_>, dice: u64) -> &'a mut Host {
    let hosts = &mut round.members.taskmanagers;
    let busy: Vec<usize> = (0..hosts.len()).filter(|n| !hosts[*n].job_processes().is_empty()).collect();
    let number = (dice / 4) as usize;
    let chosen = if !dice.is_multiple_of(4) && !busy.is_empty() {
        busy[number % busy.len()]
    } else {
        number % hosts.len()
    };
    &mut hosts[chosen]
}

/// A job process, as soon as there is one.
fn some_process(round: &Round<'_>, dice: u64) -> Result<Pid> {
    let mut pids = Vec::new();
    processes::wait(round.options.patience(), || {
        pids = round.members.job_processes();
        !pids.is_empty()
    });
    let chosen = dice.checked_rem(pids.len() as u64).and_then(|number| pids.get(number as usize));
    chosen.copied().ok_or_else(|| Failure::new("no process of the job runs"))
}
