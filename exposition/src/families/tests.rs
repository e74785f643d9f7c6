use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// A sample of a text: its name, its labels, its value.
type Series = (String, BTreeMap<String, String>, String);

/// Reads a text as strictly as the format is written: a family is there once, in one piece, with its help and its type
/// before its samples; a series is there once.
fn parse(text: &str) -> Result<Vec<Series>, String> {
    let (mut families, mut family, mut samples) = (BTreeSet::new(), None, Vec::new());
    let mut lines = text.split_terminator('\n').peekable();
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line has no end".to_owned());
    }
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, _) = rest.split_once(' ').ok_or("a help without a text")?;
            let typed = lines.next().and_then(|line| line.strip_prefix("# TYPE ")).ok_or("no type")?;
            let (typed, kind) = typed.split_once(' ').ok_or("a type without a kind")?;
            if typed != name || !["counter", "gauge", "untyped"].contains(&kind) {
                return Err(format!("the type of {name} is '{typed} {kind}'"));
            }
            if !families.insert(name.to_owned()) {
                return Err(format!("{name} is there twice"));
            }
            family = Some(name.to_owned());
            if lines.peek().is_none_or(|line| line.starts_with('#')) {
                return Err(format!("{name} has no samples"));
            }
            continue;
        }
        let sample = sample(line)?;
        if family.as_ref() != Some(&sample.0) {
            return Err(format!("'{line}' is not below its family"));
        }
        samples.push(sample);
    }
    let series: BTreeSet<_> = samples.iter().map(|(name, labels, _)| (name, labels)).collect();
    if series.len() == samples.len() { Ok(samples) } else { Err("a series is there twice".to_owned()) }
}

fn sample(line: &str) -> Result<Series, String> {
    let mut chars = line.chars().peekable();
    let mut word = |ends: &str| {
        let mut word = String::new();
        while let Some(c) = chars.next_if(|c| !ends.contains(*c)) {
            word.push(c);
        }
        (word, chars.next())
    };
    let (name, mut next) = word("{ ");
    let mut labels = BTreeMap::new();
    if next == Some('{') {
        loop {
            let (label, equals) = word("=\"{}, ");
            if label.is_empty() || equals != Some('=') || word("\"") != (String::new(), Some('"')) {
                return Err(format!("'{line}' has an invalid label"));
            }
            let mut value = String::new();
            loop {
                let (part, end) = word("\\\"");
                value.push_str(&part);
                match end {
                    Some('"') => break,
                    Some('\\') => {
                        // The escaped character is the first of the next word.
                        let (mut first, rest_end) = word("\\\"n");
                        match rest_end {
                            Some(c) if first.is_empty() => first.push(if c == 'n' { '\n' } else { c }),
                            _ => return Err(format!("'{line}' has an invalid escape")),
                        }
                        value.push_str(&first);
                    }
                    _ => return Err(format!("'{line}' has no end")),
                }
            }
            if labels.insert(label, value).is_some() {
                return Err(format!("'{line}' has a label twice"));
            }
            match word(",}") {
                (nothing, Some(',')) if nothing.is_empty() => {}
                (nothing, Some('}')) if nothing.is_empty() => break,
                _ => return Err(format!("'{line}' has something between labels")),
            }
        }
        next = word(" ").1;
    }
    let (value, end) = word(" ");
    if next != Some(' ') || end.is_some() || value.parse::<f64>().is_err() {
        return Err(format!("'{line}' has no value"));
    }
    Ok((name, labels, value))
}

/// A sample of a process.
#[derive(Clone, Debug)]
struct Given {
    family: usize,
    operator: String,
    worker: Option<u32>,
    value: i64,
}

const FAMILIES: [Family; 4] = [
    Family::counter("in_total", "Records taken."),
    Family::gauge("watermark_ms", "Event time, with a \"quote\"."),
    Family::gauge("epoch", ""),
    Family::counter("late_total", "Late."),
];

fn given() -> impl Strategy<Value = Given> {
    let operator = prop::sample::select(vec!["a", "b\"c", "d\\", "e\nf", "}, x=", "", "größe"]);
    (0..FAMILIES.len(), operator, prop::option::of(0..3u32), any::<i32>()).prop_map(
        |(family, operator, worker, value)| Given {
            family,
            operator: operator.to_owned(),
            worker,
            value: value.into(),
        },
    )
}

/// What a process says of its samples; those that came twice are left out.
fn text(samples: &[Given]) -> String {
    let mut all = Exposition::default();
    for Given { family, operator, worker, value } in samples {
        let worker = worker.map(|worker| worker.to_string());
        let mut labels = vec![("operator", &**operator)];
        labels.extend(worker.as_deref().map(|worker| ("worker", worker)));
        all.add(FAMILIES[*family], &labels, *value as f64);
    }
    all.to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_number_of_processes_gives_one_valid_text_with_every_sample_once(
        processes in prop::collection::vec((0..3u32, prop::collection::vec(given(), 0..8)), 0..6),
    ) {
        let mut all = Exposition::default();
        let mut expected = BTreeSet::new();
        for (number, (attempt, samples)) in processes.iter().enumerate() {
            let (text, attempt, number) = (text(samples), attempt.to_string(), number.to_string());
            // Every process has workers of its own, which the mark stands for here.
            let labels = [("job_id", "ab"), ("attempt", &*attempt), ("host", &*number)];
            prop_assert_eq!(all.merge_marked(&text, &labels, Some(("process", &number))), 0);
            for (name, mut labels, value) in parse(&text).unwrap() {
                if !labels.contains_key("worker") {
                    labels.insert("process".to_owned(), number.clone());
                }
                for (label, value) in [("job_id", "ab"), ("attempt", &attempt), ("host", &number)] {
                    labels.insert(label.to_owned(), value.to_owned());
                }
                expected.insert((name, labels, value));
            }
        }
        let merged = parse(&all.to_string()).unwrap();
        prop_assert_eq!(merged.len(), expected.len());
        prop_assert_eq!(merged.into_iter().collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn whatever_a_process_says_the_text_is_valid(
        lines in prop::collection::vec(".{0,30}|[a-c{}\"=, 0-9#]{0,12}|a\\{[a-c]=\"[^\"]{0,3}\"\\} 1|# TYPE [ab] gauge|# HELP a b|a 1|b 2", 0..20),
    ) {
        let mut all = Exposition::default();
        all.add(FAMILIES[0], &[], 1.0);
        let text = lines.join("\n");
        all.merge(&text, &[("job_id", "x")]);
        all.merge(&text, &[("job_id", "y")]);
        all.merge(&text, &[("job_id", "y")]);
        let samples = parse(&all.to_string());
        prop_assert!(samples.is_ok(), "{samples:?}");
    }
}

#[test]
fn samples_of_two_processes_stand_below_one_head() {
    let text = |worker| {
        format!(
            "# HELP a_total What.\n# TYPE a_total counter\na_total{{worker=\"{worker}\"}} 1\n# TYPE b gauge\nb 2\n"
        )
    };
    let mut all = Exposition::default();
    for worker in 0..2 {
        let (first, labels) = (worker.to_string(), [("job_id", "j")]);
        assert_eq!(all.merge_marked(&text(worker), &labels, Some(("process", &first))), 0);
    }
    let expected = "\
# HELP a_total What.
# TYPE a_total counter
a_total{worker=\"0\",job_id=\"j\"} 1
a_total{worker=\"1\",job_id=\"j\"} 1
# HELP b -
# TYPE b gauge
b{job_id=\"j\",process=\"0\"} 2
b{job_id=\"j\",process=\"1\"} 2
";
    assert_eq!(all.to_string(), expected);
}

#[test]
fn what_would_make_the_text_invalid_is_refused_and_counted() {
    let mut all = Exposition::default();
    all.add(FAMILIES[1], &[("x", "1"), ("y", "2")], 1.0);
    assert_eq!(all.merge("# TYPE watermark_ms gauge\nwatermark_ms{y=\"2\",x=\"1\"} 2\n", &[]), 1);
    let mut all = Exposition::default();
    all.add(FAMILIES[0], &[("x", "1")], f64::INFINITY);
    let text = "in_total 1\n# TYPE in_total gauge\nin_total 2\n# TYPE in_total counter\nin_total{job_id=\"z\"} 3\nnonsense\nin_total 4\nin_total 5\n";
    assert_eq!(all.merge(text, &[("job_id", "x")]), 5);
    let expected = "# HELP in_total Records taken.\n# TYPE in_total counter\nin_total{x=\"1\"} +Inf\nin_total{job_id=\"x\"} 4\n";
    assert_eq!(all.to_string(), expected);
}
