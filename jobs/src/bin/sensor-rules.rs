//! Reports which machines break a rule for longer than the rule allows. The rules come on a stream of their own and change
//! while the job runs.
//!
//! A rule is a row like `{"rule_id":"hot","field":"temperature","above":80.0,"for_ms":60000}`; a later row with the same
//! `rule_id` replaces it, and one with `"deleted":true` removes it. A rule counts for the readings that a worker
//! processes after it: there is no order in time between the two streams. A rule that is replaced while it is broken
//! counts as it is now, from the breach's beginning; a breach of a rule that is gone ends with the next reading.
//!
//! The readings of a device are judged in the order of event time. One that comes behind a newer one, or behind the
//! watermark, is ignored: alerts that depend on it may have been emitted already.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate::{BroadcastContext, BroadcastProcess, Job, KeyTimers, Output, Result, Timer, Watermarks};
use tidegate_connectors::FileLog;
use tidegate_jobs::Reading;

#[global_allocator]
static ALLOCATOR: tidegate::MiMalloc = tidegate::MiMalloc;

/// Reports which machines break a rule for too long; the rules may change while it runs
#[derive(clap::Args)]
struct Args {
    /// The directory of the readings: partitions part-*.jsonl.
    #[arg(long, value_name = "DIR")]
    input: PathBuf,
    /// The directory of the rules: partitions part-*.jsonl.
    #[arg(long, value_name = "DIR")]
    rules: PathBuf,
    /// Where alerts go.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Where rows go that are not readings or not rules: one directory for each below this one.
    #[arg(long, value_name = "DIR")]
    dead_letters: PathBuf,
}

fn main() -> Result<()> {
    tidegate::main("sensor-rules", build)
}

fn build(job: &mut Job, args: &Args) -> Result<()> {
    let rules = job
        .source("rules", FileLog::partitions(&args.rules).json::<Rule>())
        .dead_letters(FileLog::sink(args.dead_letters.join("rules")));
    job.source("readings", FileLog::partitions(&args.input).json::<Reading>())
        .dead_letters(FileLog::sink(args.dead_letters.join("readings")))
        .event_time(|r| r.timestamp, Watermarks::bounded(Duration::from_secs(2)))
        .key_by(|r| &r.device_id)
        .connect_broadcast(rules)
        .process("breaches", Breaches)
        .sink("alerts", FileLog::sink(&args.output).json());
    Ok(())
}

/// What a device must not do for long.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Rule {
    rule_id: String,
    #[serde(default)]
    field: Field,
    /// The limit; a value above it is a breach.
    #[serde(default)]
    above: f64,
    /// How long a breach may last, in milliseconds of event time; one millisecond more is too long.
    #[serde(default)]
    for_ms: i64,
    #[serde(default)]
    deleted: bool,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Field {
    #[default]
    Temperature,
    Vibration,
    Pressure,
}

impl Rule {
    fn is_broken_by(&self, reading: &Reading) -> bool {
        let value = match self.field {
            Field::Temperature => reading.temperature,
            Field::Vibration => reading.vibration,
            Field::Pressure => reading.pressure,
        };
        value > self.above
    }

    /// The first instant at which a breach has lasted too long.
    fn too_long_at(&self, breach: &Breach) -> i64 {
        breach.since.saturating_add(self.for_ms).saturating_add(1)
    }
}

/// What is kept of a device.
#[derive(Default, Serialize, Deserialize)]
struct Device {
    /// The event time of the newest reading that was judged.
    latest: Option<i64>,
    /// The breaches that go on, by rule.
    breaches: BTreeMap<String, Breach>,
}

/// A breach that goes on, of one rule by one device.
#[derive(Serialize, Deserialize)]
struct Breach {
    since: i64,
    alerted: bool,
}

/// A breach has lasted longer than its rule allows, or such a breach is over.
#[derive(Serialize)]
struct Alert {
    device_id: String,
    rule_id: String,
    event: &'static str,
    since: i64,
    at: i64,
}

struct Breaches;

impl BroadcastProcess for Breaches {
    type Key = String;
    type In = Reading;
    type Broadcast = Rule;
    type State = Device;
    type Shared = BTreeMap<String, Rule>;
    type Out = Alert;
    type Side = ();

    fn on_broadcast(&mut self, rule: Rule, rules: &mut BTreeMap<String, Rule>) -> Result<()> {
        if rule.deleted {
            rules.remove(&rule.rule_id);
        } else {
            rules.insert(rule.rule_id.clone(), rule);
        }
        Ok(())
    }

    fn on_record(
        &mut self,
        reading: Reading,
        rules: &BTreeMap<String, Rule>,
        context: &mut BroadcastContext<'_, Self>,
    ) -> Result<()> {
        let at = reading.timestamp;
        let latest = context.state.get().and_then(|device| device.latest);
        if context.time.watermark >= Some(at) || latest > Some(at) {
            return Ok(());
        }
        let Device { latest, breaches } = context.state.get_mut();
        *latest = Some(at);
        let mut alerts = Alerts { device_id: context.key, out: &mut context.out };
        for (id, rule) in rules {
            if rule.is_broken_by(&reading) {
                let breach = breaches.entry(id.clone()).or_insert(Breach { since: at, alerted: false });
                alerts.enter(id, rule, breach, at, &mut context.timers);
            } else if let Some(mut breach) = breaches.remove(id) {
                // The reading may come before the timer: what counts is event time, not the order of arrival.
                alerts.enter(id, rule, &mut breach, at, &mut context.timers);
                alerts.leave(id, &breach, at);
            }
        }
        let gone = breaches.extract_if(.., |id, _| !rules.contains_key(id));
        gone.for_each(|(id, breach)| alerts.leave(&id, &breach, at));
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        rules: &BTreeMap<String, Rule>,
        context: &mut BroadcastContext<'_, Self>,
    ) -> Result<()> {
        let mut alerts = Alerts { device_id: context.key, out: &mut context.out };
        for (id, breach) in &mut context.state.get_mut().breaches {
            if let Some(rule) = rules.get(id) {
                alerts.enter(id, rule, breach, timer.at, &mut context.timers);
            }
        }
        Ok(())
    }
}

/// Where the alerts of a device go.
struct Alerts<'a, 'b> {
    device_id: &'a str,
    out: &'a mut Output<'b, Alert>,
}

impl Alerts<'_, '_> {
    /// Reports a breach that has lasted too long at `now`, by its rule as it is now; one that has not gets a timer.
    fn enter(
        &mut self,
        id: &str,
        rule: &Rule,
        breach: &mut Breach,
        now: i64,
        timers: &mut KeyTimers<'_, String>,
    ) {
        let too_long_at = rule.too_long_at(breach);
        if breach.alerted {
            return;
        }
        if now < too_long_at {
            return timers.set(Timer::event(too_long_at));
        }
        breach.alerted = true;
        self.emit("entered", id, breach, too_long_at);
    }

    fn leave(&mut self, id: &str, breach: &Breach, at: i64) {
        if breach.alerted {
            self.emit("left", id, breach, at);
        }
    }

    fn emit(&mut self, event: &'static str, id: &str, breach: &Breach, at: i64) {
        let (device_id, rule_id) = (self.device_id.to_owned(), id.to_owned());
        self.out.emit(Alert { device_id, rule_id, event, since: breach.since, at });
    }
}
