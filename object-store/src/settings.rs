//! How a process reaches its object store.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use tidegate_protocol::{Error, Result};

/// The environment variable of [`S3Settings::endpoint`].
const ENDPOINT: &str = "AWS_ENDPOINT_URL";
/// The environment variable of [`S3Settings::region`].
const REGION: &str = "AWS_REGION";
/// The environment variable of [`S3Settings::virtual_hosted_style`].
const VIRTUAL_HOSTED_STYLE: &str = "AWS_VIRTUAL_HOSTED_STYLE_REQUEST";
/// The environment variable of [`S3Settings::credentials_file`].
const CREDENTIALS_FILE: &str = "AWS_SHARED_CREDENTIALS_FILE";

/// How a process reaches its object store. It holds no secret: credentials are read from the environment or from a file when
/// they are needed. What is None is as the environment variables of AWS say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Settings {
    /// The URL of a store other than that of AWS.
    pub endpoint: Option<String>,
    /// The region of the bucket.
    pub region: Option<String>,
    /// Whether the bucket is named in the host of a URL, and not in its path.
    pub virtual_hosted_style: Option<bool>,
    /// A file in the format of AWS with the credentials. Keys in the environment outweigh it.
    pub credentials_file: Option<PathBuf>,
    /// For how long a request that fails is repeated.
    pub patience: Duration,
}

impl Default for S3Settings {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            virtual_hosted_style: None,
            credentials_file: None,
            patience: Duration::from_secs(20),
        }
    }
}

impl S3Settings {
    /// What the environment variables say; those that are not named here are read when a bucket is opened.
    pub fn of_environment() -> Self {
        let file = std::env::var_os(CREDENTIALS_FILE).filter(|path| !path.is_empty());
        Self { credentials_file: file.map(PathBuf::from), ..Self::default() }
    }

    /// The environment variables by which another process has the same settings.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        let style = self.virtual_hosted_style.map(|style| style.to_string().into());
        let all = [
            (ENDPOINT, self.endpoint.clone().map(OsString::from)),
            (REGION, self.region.clone().map(OsString::from)),
            (VIRTUAL_HOSTED_STYLE, style),
            (CREDENTIALS_FILE, self.credentials_file.clone().map(OsString::from)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Checks the URL of an object store. One with a user or a password in it is refused: it is shown in messages.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_endpoint(text: &str) -> Result<()> {
        let host = text.strip_prefix("https://").or(text.strip_prefix("http://"));
        match host {
            Some(host) if !host.is_empty() && !host.contains(['@', '?', '#', ' ']) => Ok(()),
            Some(host) if host.contains('@') => Err(Error::environment(
                "it must not have credentials in it; they belong into the credentials file or the environment",
            )),
            _ => Err(Error::environment("it must be a URL such as https://s3.example:9000")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_is_told_what_is_set() {
        assert!(S3Settings::default().variables().is_empty());
        let settings = S3Settings {
            endpoint: Some("https://s3.example".to_owned()),
            virtual_hosted_style: Some(true),
            credentials_file: Some("/etc/tidegate/s3".into()),
            ..S3Settings::default()
        };
        let variables = settings.variables();
        let expected = [
            ("AWS_ENDPOINT_URL", "https://s3.example"),
            ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/etc/tidegate/s3"),
        ];
        assert_eq!(variables, expected.map(|(name, value)| (name, OsString::from(value))));
    }

    #[test]
    fn an_endpoint_is_a_url_without_secrets() {
        for valid in ["http://127.0.0.1:9000", "https://s3.example/path"] {
            S3Settings::check_endpoint(valid).unwrap();
        }
        for (text, why) in
            [("s3.example", "it must be a URL"), ("https://a:b@c", "must not have credentials")]
        {
            let error = S3Settings::check_endpoint(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
