//! How deep JSON may be nested that is passed on inside of other JSON: serde_json reads 127 levels, and refuses more.

use serde::de::Error;

/// The most levels of a message of a process. Those who pass it on add a few around it.
const LEVELS_MAX: usize = 120;

/// Refuses JSON that is nested too deep.
///
/// # Errors
/// If it has more than [`LEVELS_MAX`] levels.
pub(crate) fn check(json: &[u8]) -> serde_json::Result<()> {
    if levels(json) > LEVELS_MAX {
        return Err(serde_json::Error::custom(format!("it is nested deeper than {LEVELS_MAX} levels")));
    }
    Ok(())
}

/// The most arrays and objects around any value; of bytes that are no JSON, some number.
fn levels(json: &[u8]) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    let (mut in_text, mut is_escaped) = (false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = in_text,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => now += 1,
            b']' | b'}' if !in_text => now = now.saturating_sub(1),
            _ => {}
        }
        most = most.max(now);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_arrays_and_objects() {
        for (json, expected) in [
            ("7", 0),
            ("[[], {\"a\": [1]}, []]", 3),
            (r#"{"[[[": "{{\"{"}"#, 1),
            (r#"["\\", []]"#, 2),
            ("]]]][", 1),
        ] {
            assert_eq!(levels(json.as_bytes()), expected, "{json}");
        }
    }

    #[test]
    fn what_is_nested_too_deep_is_refused() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(check(nested(LEVELS_MAX).as_bytes()).is_ok());
        let error = check(nested(LEVELS_MAX + 1).as_bytes()).unwrap_err().to_string();
        assert_eq!(error, "it is nested deeper than 120 levels");
    }
}
