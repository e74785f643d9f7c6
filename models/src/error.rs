//! What can be wrong with a model, with messages that say how to fix it.

use std::{error::Error, fmt, io};

/// Why a model cannot be used. The text says what is wrong, where, and what to do about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum ModelError {
    /// The file cannot be read at all.
    Read {
        /// The path that was asked for.
        file: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file holds a model that may be valid but that this evaluator does not score.
    Unsupported {
        /// The path, or the name given to `from_slice`.
        file: String,
        /// What is not supported, by its name in xgboost.
        what: String,
        /// What to do instead.
        remedy: String,
    },
    /// The file is not a valid model: truncated, altered, or not a model at all.
    Corrupt {
        /// The path, or the name given to `from_slice`.
        file: String,
        /// What is wrong, and where in the file.
        what: String,
    },
    /// The model takes another number of features than the job gives it.
    Features {
        /// The model's id.
        model: String,
        /// Features in a row that the model was trained on.
        takes: usize,
        /// Features in a row that the job has.
        given: usize,
    },
    /// The model gives another number of outputs than the job takes.
    Outputs {
        /// The model's id.
        model: String,
        /// Outputs a row that the model gives.
        gives: usize,
        /// Outputs a row that the job takes.
        wanted: usize,
    },
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { file, source } => write!(f, "cannot read the model {file}: {source}"),
            Self::Unsupported { file, what, remedy } => {
                write!(f, "the model {file} cannot be used: {what}; {remedy}")
            }
            Self::Corrupt { file, what } => {
                write!(f, "the model {file} is damaged: {what}; copy it again or save it again")
            }
            Self::Features { model, takes, given } => {
                write!(f, "{model} takes {takes} features a row, the job gives {given}; ")?;
                write!(f, "give it the features that it was trained on, in that order")
            }
            Self::Outputs { model, gives, wanted } => {
                write!(f, "{model} gives {gives} outputs a row, the job takes {wanted}; ")?;
                write!(f, "use the model that the job was written for")
            }
        }
    }
}

impl Error for ModelError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// What is wrong with a model's bytes, before anyone knows which file they came from.
#[derive(Debug, PartialEq)]
pub(crate) enum Fault {
    Corrupt(String),
    Unsupported { what: String, remedy: &'static str },
}

impl Fault {
    pub(crate) fn corrupt(what: impl Into<String>) -> Fault {
        Fault::Corrupt(what.into())
    }

    pub(crate) fn unsupported(what: impl Into<String>, remedy: &'static str) -> Fault {
        Fault::Unsupported { what: what.into(), remedy }
    }

    pub(crate) fn in_file(self, file: String) -> ModelError {
        match self {
            Fault::Corrupt(what) => ModelError::Corrupt { file, what },
            Fault::Unsupported { what, remedy } => {
                ModelError::Unsupported { file, what, remedy: remedy.into() }
            }
        }
    }
}
