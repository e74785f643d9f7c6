//! Tells which machines break a rule for longer than the rule allows. The rules come on a stream of their own and change
//! while the job runs.
//!
//! A rule is a row like `{"rule_id":"hot","field":"temperature","above":80.0,"for_ms":60000}`; a later row with the same
//! `rule_id` replaces it, and one with `"deleted":true` takes it back. A rule counts for the readings that a worker
//! processes after it: there is no order in time between the two streams.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate::{BroadcastContext, BroadcastProcess, Job, Result, Time, Timer, Watermarks};
use tidegate_connectors::FileLog;
use tidegate_jobs::Reading;

/// Tells which machines break a rule for too long; the rules may change while it runs
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
    /// Where rows go that are no readings or no rules: one directory for each below this one.
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
    /// How long a breach may last, in milliseconds of event time.
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
}

/// A breach that goes on, of one rule by one device.
#[derive(Clone, Copy, Serialize, Deserialize)]
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

type Context<'a> = BroadcastContext<'a, String, Reading, Rule, Breaches>;

impl BroadcastProcess<String, Reading, Rule> for Breaches {
    type State = BTreeMap<String, Breach>;
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
        context: &mut Context<'_>,
    ) -> Result<()> {
        for (id, rule) in rules {
            let breach = context.state().and_then(|breaches| breaches.get(id)).copied();
            match (rule.is_broken_by(&reading), breach) {
                (true, None) => enter(id, rule, reading.timestamp, context),
                (false, Some(breach)) => {
                    // The reading may come before the timer: what counts is event time, not who is first.
                    let lasted = reading.timestamp - breach.since >= rule.for_ms;
                    let breach = if lasted { enter_late(id, rule, breach, context) } else { breach };
                    leave(id, breach, reading.timestamp, context);
                }
                _ => {}
            }
        }
        self.forget_deleted(reading.timestamp, rules, context);
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        rules: &BTreeMap<String, Rule>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let breaches = context.state().cloned().unwrap_or_default();
        for (id, breach) in breaches {
            let too_long = rules.get(&id).is_some_and(|rule| breach.since + rule.for_ms <= timer.at);
            if too_long && !breach.alerted {
                context.state_mut().insert(id.clone(), Breach { alerted: true, ..breach });
                alert("entered", &id, breach.since, timer.at, context);
            }
        }
        Ok(())
    }
}

impl Breaches {
    /// A breach of a rule that is gone is over.
    fn forget_deleted(&self, at: i64, rules: &BTreeMap<String, Rule>, context: &mut Context<'_>) {
        let breaches = context.state().into_iter().flatten();
        let gone: Vec<_> =
            breaches.filter(|(id, _)| !rules.contains_key(*id)).map(|(id, b)| (id.clone(), *b)).collect();
        for (id, breach) in gone {
            leave(&id, breach, at, context);
        }
    }
}

fn enter(id: &str, rule: &Rule, at: i64, context: &mut Context<'_>) {
    context.state_mut().insert(id.to_owned(), Breach { since: at, alerted: false });
    context.set_timer(Timer { at: at + rule.for_ms, time: Time::Event });
}

/// Tells of a breach that has lasted too long before its timer was due.
fn enter_late(id: &str, rule: &Rule, breach: Breach, context: &mut Context<'_>) -> Breach {
    if !breach.alerted {
        alert("entered", id, breach.since, breach.since + rule.for_ms, context);
    }
    Breach { alerted: true, ..breach }
}

fn leave(id: &str, breach: Breach, at: i64, context: &mut Context<'_>) {
    context.state_mut().remove(id);
    if context.state().is_some_and(BTreeMap::is_empty) {
        context.clear();
    }
    if breach.alerted {
        alert("left", id, breach.since, at, context);
    }
}

fn alert(event: &'static str, id: &str, since: i64, at: i64, context: &mut Context<'_>) {
    let device_id = context.key().clone();
    context.emit(Alert { device_id, rule_id: id.to_owned(), event, since, at });
}
