//! Values as people write them in flags, in the environment and in the configuration file: numbers, durations, sizes and
//! addresses. Every error says what is possible.
//!
//! Not here: which flag or key has which kind of value (`options`, `config::keys`).

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::SignedDuration;
use tidegate_object_store::{S3Settings, S3Uri};

/// Refuses the next flag where a value is missing. Flags take values with a hyphen, so that the error for a negative number
/// says what is wrong with it.
fn check_is_no_flag(text: &str) -> Result<(), String> {
    let is_flag =
        text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c == '-' || c.is_alphabetic()));
    if is_flag { Err(format!("the value is missing; '{text}' is the next flag")) } else { Ok(()) }
}

/// A whole number within limits, both of which are possible.
pub(crate) fn number(text: &str, least: u32, most: u32) -> Result<u32, String> {
    check_is_no_flag(text)?;
    let below = || Err(format!("it must be at least {least}"));
    match text.parse::<i128>() {
        Ok(number) if number < i128::from(least) => below(),
        Ok(number) if number > i128::from(most) => Err(format!("it must be at most {most}")),
        Ok(number) => u32::try_from(number).map_err(|_| format!("it must be at most {most}")),
        Err(_) if text.starts_with('-') && text.parse::<f64>().is_ok() => below(),
        Err(_) => Err(format!("'{text}' is not a whole number")),
    }
}

/// The parallelism of a job.
pub(crate) fn parallelism(text: &str) -> Result<u32, String> {
    number(text, 1, 32_768)
}

/// A number of workers, or `auto`.
pub(crate) fn parallelism_or_auto(text: &str) -> Result<Parallelism, String> {
    if text == "auto" {
        return Ok(Parallelism::Auto);
    }
    parallelism(text).map(Parallelism::Of).map_err(|error| format!("{error}; or 'auto'"))
}

/// The number of workers that a user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parallelism {
    /// This one.
    Of(u32),
    /// One that follows the partitions and the slots there are.
    Auto,
}

/// A duration such as `250ms`, `1s`, `1.5m`, of at least a millisecond; a number without a unit is one of seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    check_is_no_flag(text)?;
    let is_number = text.parse::<f64>().is_ok();
    let with_unit = if is_number { format!("{text}s") } else { text.to_owned() };
    let duration: SignedDuration = with_unit.parse().map_err(|_| {
        format!(
            "'{text}' is not a time; it must be a number with the unit ms, s, m or h, such as 500ms, 1s or 2m, or a number of \
             seconds"
        )
    })?;
    if duration < SignedDuration::from_millis(1) {
        return Err("it must be at least 1ms".to_owned());
    }
    if duration > SignedDuration::from_hours(1_000_000) {
        return Err("it must be at most 1000000h".to_owned());
    }
    Ok(duration.unsigned_abs())
}

/// A number of bytes such as `64MB`, `2GB`, `512KiB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    check_is_no_flag(text)?;
    let size: ByteSize = text.parse().map_err(|_| {
        format!(
            "'{text}' is not a size; it must be a number with the unit KB, MB, GB, KiB, MiB or GiB, such as 64MB, or a number \
             of bytes"
        )
    })?;
    match size {
        size if size < ByteSize::kb(1) => Err("it must be at least 1KB".to_owned()),
        size if size < ByteSize::pb(1) => Ok(size.as_u64()),
        _ => Err("it must be less than 1000000GB".to_owned()),
    }
}

/// A host's name or its IP address, and a port.
pub(crate) fn address(text: &str) -> Result<String, String> {
    check_is_no_flag(text)?;
    match text.rsplit_once(':') {
        Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Err(format!(
            "'{text}' is not an address; it must be a host and a port from 0 to 65535, such as 127.0.0.1:8081, localhost:8081 \
             or [::1]:8081"
        )),
    }
}

fn is_host(text: &str) -> bool {
    let is_in_brackets = text.strip_prefix('[').is_some_and(|rest| rest.ends_with(']'));
    !text.is_empty() && !text.contains(['/', ' ', ',']) && (is_in_brackets || !text.contains(':'))
}

/// One or more addresses, separated by commas.
pub(crate) fn addresses(text: &str) -> Result<Vec<String>, String> {
    text.split(',').map(|part| address(part.trim())).collect()
}

/// An IP address to listen on.
pub(crate) fn ip(text: &str) -> Result<IpAddr, String> {
    check_is_no_flag(text)?;
    text.parse().map_err(|_| {
        format!("'{text}' is not an IP address; it must be one of this host, such as 127.0.0.1 or 10.1.2.3, or 0.0.0.0 for all")
    })
}

/// A host's name or its IP address, without a port.
pub(crate) fn host(text: &str) -> Result<String, String> {
    check_is_no_flag(text)?;
    let is_valid = text.parse::<IpAddr>().is_ok() || (is_host(text) && !text.contains('['));
    let invalid = || {
        format!(
            "'{text}' is not a host; it must be a name or an IP address without a port, such as host-1.example or 10.1.2.3"
        )
    };
    is_valid.then(|| text.to_owned()).ok_or_else(invalid)
}

/// A file or a directory.
pub(crate) fn path(text: &str) -> Result<PathBuf, String> {
    check_is_no_flag(text)?;
    if text.is_empty() { Err("the path is empty".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// A checkpoint store: a path, or a place in a bucket.
pub(crate) fn store(text: &str) -> Result<String, String> {
    check_is_no_flag(text)?;
    match S3Uri::is_meant_by(text) {
        true => text.parse::<S3Uri>().map(|uri| uri.to_string()).map_err(|error| error.to_string()),
        false if text.is_empty() => Err("the path is empty".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// The URL of an object store.
pub(crate) fn endpoint(text: &str) -> Result<String, String> {
    check_is_no_flag(text)?;
    S3Settings::check_endpoint(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

/// A word of letters, digits and hyphens.
pub(crate) fn word(text: &str) -> Result<String, String> {
    check_is_no_flag(text)?;
    let is_word = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    is_word
        .then(|| text.to_owned())
        .ok_or_else(|| format!("'{text}' must consist of letters, digits and hyphens"))
}

/// Whether something is so.
pub(crate) fn flag(text: &str) -> Result<bool, String> {
    check_is_no_flag(text)?;
    text.parse().map_err(|_| format!("'{text}' is neither true nor false"))
}

/// A setting of a job, `key=value`.
pub(crate) fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(format!("'{text}' is not a setting; it must be KEY=VALUE, such as checkpoint.interval=10s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_or_refused_with_the_limit() {
        assert_eq!(number("7", 1, 10), Ok(7));
        assert_eq!(number("0", 0, 10), Ok(0));
        for text in ["0", "-1", "-1.5"] {
            assert_eq!(number(text, 1, 10).unwrap_err(), "it must be at least 1", "{text}");
        }
        for text in ["11", "99999999999999999999999"] {
            assert_eq!(number(text, 1, 10).unwrap_err(), "it must be at most 10", "{text}");
        }
        for text in ["1.5", "", "-", "many"] {
            assert_eq!(number(text, 1, 10).unwrap_err(), format!("'{text}' is not a whole number"));
        }
        assert!(number("--slots", 1, 10).unwrap_err().starts_with("the value is missing; '--slots'"));
    }

    #[test]
    fn durations_and_sizes_are_read_as_people_write_them() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        for text in ["0s", "-1s", "0.5ms"] {
            assert_eq!(duration(text).unwrap_err(), "it must be at least 1ms", "{text}");
        }
        for text in ["", "s", "5x", "3 weeks"] {
            assert!(duration(text).unwrap_err().contains("such as 500ms"), "{text}");
        }
        assert_eq!(duration("1000001h").unwrap_err(), "it must be at most 1000000h");
        assert_eq!(size("64MB"), Ok(64_000_000));
        assert_eq!(size("2KiB"), Ok(2048));
        assert_eq!(size("12").unwrap_err(), "it must be at least 1KB");
        assert!(size("MB").unwrap_err().contains("such as 64MB"));
    }

    #[test]
    fn addresses_are_read_or_refused_with_an_example() {
        for text in ["127.0.0.1:8081", "localhost:0", "[::1]:8081", "host.example:65535"] {
            assert_eq!(address(text), Ok(text.to_owned()));
        }
        for text in ["8081", ":8081", "localhost", "localhost:65536", "http://localhost:1", "::1:80"] {
            assert!(address(text).unwrap_err().contains("such as 127.0.0.1:8081"), "{text}");
        }
        assert_eq!(addresses("a:1, b:2"), Ok(vec!["a:1".to_owned(), "b:2".to_owned()]));
        assert!(addresses("a:1,,b:2").is_err());
        assert!(ip("0.0.0.0").is_ok() && ip("::1").is_ok() && ip("localhost").is_err());
        assert!(host("host-1").is_ok() && host("::1").is_ok() && host("a:1").is_err() && host("").is_err());
    }

    #[test]
    fn a_setting_has_a_key_and_a_value() {
        assert_eq!(setting("a.b=1=2"), Ok(("a.b".to_owned(), "1=2".to_owned())));
        assert!(setting("=1").is_err() && setting("a").unwrap_err().contains("KEY=VALUE"));
    }

    #[test]
    fn a_store_is_a_path_or_a_place_in_a_bucket() {
        assert_eq!(store("/mnt/tidegate"), Ok("/mnt/tidegate".to_owned()));
        assert_eq!(store("s3://bucket/a/"), Ok("s3://bucket/a".to_owned()));
        assert!(store("gs://bucket").unwrap_err().contains("only s3:// is supported"));
        assert!(endpoint("https://key:secret@host").unwrap_err().contains("must not have credentials"));
        assert!(endpoint("host").is_err() && word("eu central").is_err() && flag("yes").is_err());
        assert_eq!(
            (endpoint("http://host:9000"), flag("true")),
            (Ok("http://host:9000".to_owned()), Ok(true))
        );
    }
}
