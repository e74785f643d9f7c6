//! The error type, which says who can fix the cause.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The result of everything that a job author calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who can fix the cause of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The job: its code, its arguments or its input. Starting it again without a change fails again.
    Job,
    /// The environment: a disk, a file, a network. Starting the job again may work.
    Environment,
    /// Tidegate itself: an invariant does not hold. Please report it.
    Internal,
}

/// What went wrong, where, and what to do about it.
///
/// An error that is sent to another process keeps its kind and its message, with the causes in it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Sent", into = "Sent")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of the job or its input.
    pub fn job(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Job, message: message.into(), source: None }
    }

    /// An error of the job's environment.
    pub fn environment(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Environment, message: message.into(), source: None }
    }

    /// A broken invariant of Tidegate.
    pub fn internal(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Internal, message: message.into(), source: None }
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Puts what was being done in front of the message.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// Who can fix the cause.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// An error as it is sent.
#[derive(Serialize, Deserialize)]
struct Sent {
    kind: ErrorKind,
    message: String,
}

impl From<Error> for Sent {
    fn from(error: Error) -> Self {
        Self { kind: error.kind, message: error.text() }
    }
}

impl From<Sent> for Error {
    fn from(Sent { kind, message }: Sent) -> Self {
        Self { kind, message, source: None }
    }
}

impl Error {
    /// The message with its causes.
    fn text(&self) -> String {
        let cause = self.source.as_deref().map(|s| s as &dyn std::error::Error);
        with_causes(self.message.clone(), cause)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())?;
        if self.kind == ErrorKind::Internal {
            f.write_str(" (this is a defect of Tidegate, please report it)")?;
        }
        Ok(())
    }
}

/// The same as the display, so that `fn main() -> tidegate::Result<()>` prints a sentence.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An error of user code is one of the job unless it is given another kind; an I/O error is one of the environment.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(source: E) -> Self {
        let any: &dyn std::any::Any = &source;
        let kind = if any.is::<std::io::Error>() { ErrorKind::Environment } else { ErrorKind::Job };
        Self { kind, message: with_causes(source.to_string(), source.source()), source: None }
    }
}

/// A message with the causes behind it. Many error types have their cause in their own message, too; it appears once.
fn with_causes(mut message: String, mut cause: Option<&dyn std::error::Error>) -> String {
    while let Some(error) = cause {
        let text = error.to_string();
        if message != text && !message.ends_with(&format!(": {text}")) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    message
}

/// Adds what was being done to an error on its way up.
pub trait ErrorContext<T> {
    /// Puts `doing()` in front of the message.
    ///
    /// # Errors
    /// The error it was called on, with the context.
    fn context<D: fmt::Display>(self, doing: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> ErrorContext<T> for std::result::Result<T, E> {
    fn context<D: fmt::Display>(self, doing: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| e.into().context(doing()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_a_sentence_with_its_cause() {
        let io = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let error = Error::from(io).context("open /data");
        assert_eq!(error.to_string(), "open /data: no such file");
        assert_eq!(error.kind(), ErrorKind::Environment);
        let parse = "x".parse::<u8>().unwrap_err();
        let error = Error::job("the flag cannot be read").caused_by(parse);
        assert_eq!(error.to_string(), "the flag cannot be read: invalid digit found in string");
        let error = Error::internal("epoch 3 after 4").caused_by(Error::job("x").to_string());
        assert_eq!(error.to_string(), "epoch 3 after 4: x (this is a defect of Tidegate, please report it)");
    }

    #[test]
    fn an_error_that_is_sent_keeps_its_kind_and_reads_the_same() {
        let parse = "x".parse::<u8>().unwrap_err();
        for error in [Error::job("no").caused_by(parse), Error::internal("epoch 3 after 4")] {
            let sent = serde_json::to_string(&error).unwrap();
            let arrived: Error = serde_json::from_str(&sent).unwrap();
            assert_eq!((arrived.kind(), arrived.to_string()), (error.kind(), error.to_string()));
        }
    }

    /// An error with a cause, whose own message may or may not contain that cause.
    #[derive(Debug)]
    struct Wrapped(&'static str, std::io::Error);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Wrapped {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.1)
        }
    }

    #[test]
    fn a_cause_stands_in_a_message_once() {
        let full = || std::io::Error::other("the disk is full");
        for text in ["cannot write a.txt: the disk is full", "cannot write a.txt"] {
            let error = Error::from(Wrapped(text, full())).context("step 'x'");
            assert_eq!(error.to_string(), "step 'x': cannot write a.txt: the disk is full");
            let error = Error::job("step 'x' has failed").caused_by(Wrapped(text, full()));
            assert_eq!(error.to_string(), "step 'x' has failed: cannot write a.txt: the disk is full");
        }
        let error = Error::job("the record is no JSON").caused_by("no");
        assert_eq!(error.to_string(), "the record is no JSON: no", "a word that is in the message by chance");
    }
}
