//! Samples, family by family: every family is there once, with its help and its type, whoever its samples come from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Write as _};

use crate::sample::{Sample, escaped, is_name};

/// A metric: its name, what it means and its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
}

impl Family {
    /// A value that goes up and down.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: "gauge" }
    }

    /// A total that only grows; its name ends with `_total`.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: "counter" }
    }
}

/// What stands under the head of a family.
#[derive(Clone, Debug, Default)]
struct Samples {
    help: String,
    kind: String,
    /// Each with its labels, in the order in which they came.
    lines: Vec<String>,
    /// The labels that are there: Prometheus refuses a text that has a series twice.
    series: BTreeSet<String>,
}

/// A text under construction.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    families: BTreeMap<String, Samples>,
    /// The names of the families in the order in which they came.
    order: Vec<String>,
}

impl Exposition {
    /// Adds a sample, unless there is one of the same labels already.
    pub fn add(&mut self, family: Family, labels: &[(&str, &str)], value: f64) {
        let value = if value.is_infinite() {
            if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
        } else {
            value.to_string()
        };
        let labels = written(labels);
        self.insert((family.name, family.help, family.kind), &labels, &value);
    }

    /// Adds the samples of another process, each with these labels added. Returns how many lines were refused: no samples,
    /// samples of no family or of another type than before, or such that are there already.
    pub fn merge(&mut self, text: &str, labels: &[(&str, &str)]) -> usize {
        self.merge_marked(text, labels, None)
    }

    /// The same; `mark` is added to samples that do not have a label `worker`, which would be the same for several
    /// processes of a job.
    pub fn merge_marked(&mut self, text: &str, labels: &[(&str, &str)], mark: Option<(&str, &str)>) -> usize {
        let (mut head, mut refused) = (Head::default(), 0);
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix('#') {
                head.take(comment);
                continue;
            }
            let added = Sample::read(line).is_some_and(|sample| {
                let mark = mark.filter(|_| !sample.label_names.contains(&"worker"));
                let more: Vec<_> = labels.iter().copied().chain(mark).collect();
                let is_labelled = more.iter().any(|(name, _)| sample.label_names.contains(name));
                !is_labelled && head.has(sample.name) && self.insert_sample(&head, &sample, &more)
            });
            refused += usize::from(!added);
        }
        refused
    }

    fn insert_sample(&mut self, head: &Head<'_>, sample: &Sample<'_>, more: &[(&str, &str)]) -> bool {
        let more = written(more);
        let comma = if sample.labels.is_empty() || more.is_empty() { "" } else { "," };
        let labels = format!("{}{comma}{more}", sample.labels);
        self.insert((sample.name, head.help, head.kind), &labels, sample.value)
    }

    fn insert(&mut self, (name, help, kind): (&str, &str, &str), labels: &str, value: &str) -> bool {
        if !self.families.contains_key(name) {
            self.order.push(name.to_owned());
        }
        let family = self.families.entry(name.to_owned()).or_insert_with(|| Samples {
            help: help.to_owned(),
            kind: kind.to_owned(),
            ..Samples::default()
        });
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let line = format!("{name}{braces} {value}");
        // The order of labels makes no difference.
        let mut series = Sample::read(&line).map(|sample| sample.parts()).unwrap_or_default();
        series.sort_unstable();
        if family.kind != kind || !family.series.insert(series.join(",")) {
            return false;
        }
        family.lines.push(line);
        true
    }
}

/// The last head of a family that was read.
#[derive(Debug, Default)]
struct Head<'a> {
    name: &'a str,
    help: &'a str,
    kind: &'a str,
}

impl<'a> Head<'a> {
    /// Takes a comment, without its `#`. Those that are no part of a head are skipped.
    fn take(&mut self, comment: &'a str) {
        let mut words = comment.trim_start().splitn(3, ' ');
        let (word, name, rest) = (words.next(), words.next().unwrap_or(""), words.next().unwrap_or(""));
        let name = match word {
            Some("HELP" | "TYPE") if is_name(name, true) => name,
            _ => return,
        };
        if self.name != name {
            *self = Self { name, ..Self::default() };
        }
        match word {
            Some("HELP") => self.help = rest.trim_end(),
            // A histogram or a summary has samples of several names.
            Some("TYPE") if matches!(rest, "counter" | "gauge" | "untyped") => self.kind = rest,
            _ => {}
        }
    }

    fn has(&self, name: &str) -> bool {
        self.name == name && !self.kind.is_empty()
    }
}

fn written(labels: &[(&str, &str)]) -> String {
    let labels: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    labels.join(",")
}

impl Display for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.order {
            let Some(Samples { help, kind, lines, .. }) = self.families.get(name) else { continue };
            if !lines.is_empty() {
                let help = if help.is_empty() { "-" } else { help };
                write!(f, "# HELP {name} {help}\n# TYPE {name} {kind}\n")?;
                lines.iter().try_for_each(|line| {
                    f.write_str(line)?;
                    f.write_char('\n')
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
