//! Where a value of the configuration comes from.

use std::fmt;
use std::path::PathBuf;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Origin {
    /// Nobody has set it.
    Default,
    /// The cluster that `tidegate cluster up` has started in this directory.
    LocalCluster(PathBuf),
    /// A line of the configuration file.
    File { path: PathBuf, line: usize },
    /// An environment variable.
    Environment(&'static str),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::LocalCluster(directory) => write!(f, "the cluster in {}", directory.display()),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Environment(variable) => write!(f, "{variable} in the environment"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}
