//! One line of a text: a name, labels, a value.

/// A sample as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample<'a> {
    pub(crate) name: &'a str,
    /// What stands in the braces, without a comma at the end.
    pub(crate) labels: &'a str,
    pub(crate) label_names: Vec<&'a str>,
    pub(crate) value: &'a str,
}

impl<'a> Sample<'a> {
    /// Reads a line; None if it is no sample that Prometheus accepts. A time behind the value is none.
    pub(crate) fn read(line: &'a str) -> Option<Self> {
        let end = line.find(['{', ' '])?;
        let name = &line[..end];
        let (labels, label_names, rest) = match line[end..].strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => ("", Vec::new(), &line[end..]),
        };
        let value = rest.strip_prefix(' ')?;
        (is_name(name, true) && is_value(value)).then_some(Self { name, labels, label_names, value })
    }

    /// The labels one by one, as they are written.
    pub(crate) fn parts(&self) -> Vec<&'a str> {
        let (mut parts, mut rest) = (Vec::new(), self.labels);
        while let Some(equals) = rest.find('=') {
            let end = quoted(&rest[equals + 2..]).map_or(rest.len(), |length| equals + 2 + length);
            parts.push(&rest[..end]);
            rest = rest[end..].trim_start_matches(',');
        }
        parts
    }
}

/// Reads labels up to the closing brace; returns their text, their names, and what follows.
fn labels(text: &str) -> Option<(&str, Vec<&str>, &str)> {
    let (mut names, mut at) = (Vec::new(), 0);
    let mut end = 0;
    loop {
        if let Some(rest) = text[at..].strip_prefix('}') {
            return Some((&text[..end], names, rest));
        }
        let equals = at + text[at..].find('=')?;
        let name = &text[at..equals];
        if !is_name(name, false) || names.contains(&name) {
            return None;
        }
        names.push(name);
        text[equals..].strip_prefix("=\"")?;
        end = equals + 2 + quoted(&text[equals + 2..])?;
        at = end + usize::from(text[end..].starts_with(','));
        if at == end && !text[at..].starts_with('}') {
            return None;
        }
    }
}

/// The length of a quoted value with its closing quote.
fn quoted(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\\' | b'"' | b'n' if is_escaped => is_escaped = false,
            _ if is_escaped => return None,
            b'\\' => is_escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Whether a text is the name of a metric, or of a label.
pub(crate) fn is_name(text: &str, of_metric: bool) -> bool {
    let may_begin = |c: char| c.is_ascii_alphabetic() || c == '_' || (of_metric && c == ':');
    text.starts_with(may_begin) && text.chars().all(|c| may_begin(c) || c.is_ascii_digit())
}

fn is_value(text: &str) -> bool {
    let is_finite = |text: &str| {
        text.bytes().all(|c| c.is_ascii_digit() || b"+-.eE".contains(&c)) && text.parse::<f64>().is_ok()
    };
    matches!(text, "NaN" | "+Inf" | "-Inf") || is_finite(text)
}

/// A text as it stands between the quotes of a label.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_everything_else_is_refused() {
        let sample = Sample::read(r#"a_total{x="1",y="a\"}\\,b",} 7.5"#).unwrap();
        assert_eq!((sample.name, sample.labels, sample.value), ("a_total", r#"x="1",y="a\"}\\,b""#, "7.5"));
        assert_eq!(sample.label_names, ["x", "y"]);
        assert_eq!(sample.parts(), [r#"x="1""#, r#"y="a\"}\\,b""#]);
        for line in ["a 1", "a{} 1", "a:b -1e3", "a NaN", "a +Inf"] {
            assert_eq!(Sample::read(line).map(|sample| sample.labels), Some(""), "{line}");
        }
        for line in [
            "",
            "a",
            "a ",
            "1a 1",
            "a x",
            "a 1 2",
            "a inf",
            "a{ 1",
            "a{x} 1",
            r#"a{x="1} 1"#,
            r#"a{x="1"y="2"} 1"#,
            r#"a{x="1",x="2"} 1"#,
            r#"a{x="\d"} 1"#,
            r#"a{1="1"} 1"#,
            r#"a{x="1"}1"#,
            "{} 1",
            r#"a{,} 1"#,
            "ä 1",
        ] {
            assert_eq!(Sample::read(line), None, "{line}");
        }
    }
}
