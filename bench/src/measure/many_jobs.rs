//! What a cluster costs beside its jobs: the memory of idle daemons, the time of a submission, and the jobmanager's CPU with
//! many jobs.

use crate::Result;
use crate::child::Watched;
use crate::cluster::Cluster;
use crate::setting::Setting;
use crate::table::Table;
use std::time::{Duration, Instant};

/// Jobs of one worker each.
const JOBS: usize = 200;
const FLAGS: &str = "--kept nothing --keys 10 --partitions 1 --rate 10 --seconds 3600";
const INTERVAL: &str = "checkpoint.interval=1s";
/// How long the jobmanager is watched.
const SPAN: Duration = Duration::from_secs(20);

/// One cluster with room for all jobs.
pub fn take(setting: &Setting) -> Result<Table> {
    let mut table = Table::new("A cluster beside its jobs", &["what", "figure", "goal"]);
    let cluster = Cluster::start(setting, 1, JOBS as u32 + 1)?;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let idle = |bytes: fn(&Watched) -> u64| {
        let [jobmanager, taskmanager] = [&cluster.jobmanager, &cluster.taskmanagers[0]].map(bytes).map(mb);
        format!("{jobmanager:.1} + {taskmanager:.1} MB")
    };
    let [resident, share] = [Watched::resident, Watched::resident_share].map(idle);
    table.row(["idle jobmanager + taskmanager, resident".to_owned(), resident, "40 MB".to_owned()]);
    table.row(["the same, pages of both divided among them".to_owned(), share, "-".to_owned()]);
    submit(setting, &cluster, "first")?;
    let began = Instant::now();
    submit(setting, &cluster, "second")?;
    let seconds = format!("{:.2} s", began.elapsed().as_secs_f64());
    table.row(["from `tidegate run` to RUNNING".to_owned(), seconds, "0.5 s".to_owned()]);
    let began = Instant::now();
    for number in 2..JOBS {
        submit(setting, &cluster, &number.to_string())?;
    }
    let seconds = format!("{:.0} s", began.elapsed().as_secs_f64());
    table.row([format!("submissions of {} more, one after the other", JOBS - 2), seconds, "-".to_owned()]);
    let (cpu, began) = (cluster.jobmanager.cpu()?, Instant::now());
    std::thread::sleep(SPAN);
    let share = (cluster.jobmanager.cpu()? - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    table.row([
        format!("jobmanager with {JOBS} jobs, {INTERVAL}"),
        percent(share),
        "10 % of a core".to_owned(),
    ]);
    let resident = format!("{:.1} MB", mb(cluster.jobmanager.resident()));
    table.row(["its memory then, resident".to_owned(), resident, "-".to_owned()]);
    Ok(table)
}

/// Submits a job and waits until it runs.
fn submit(setting: &Setting, cluster: &Cluster, name: &str) -> Result<()> {
    let output = setting.path("many-output").join(name);
    let mut arguments: Vec<String> = FLAGS.split_whitespace().map(str::to_owned).collect();
    arguments.extend(["--output".to_owned(), output.to_string_lossy().into_owned()]);
    let job = cluster.submit(&["-p", "1", "-D", INTERVAL], &setting.beside("bench-keys")?, &arguments)?;
    cluster.runs(&job, 1).map(drop)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
