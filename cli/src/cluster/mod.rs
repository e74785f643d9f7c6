//! A cluster on this machine: `tidegate cluster up` starts the daemons as processes of this program, `tidegate cluster down`
//! stops them.
//!
//! Everything is in one directory: the secret, the data of each daemon, the checkpoint store, the logs, and the file
//! `pids.json`, which says what runs. Commands that are run beside a directory of the usual name use its cluster.
//!
//! - [`up`](mod@up): starts the daemons, waits until they are ready, and watches them in the foreground.
//! - [`down`](mod@down): stops what `pids.json` lists.
//! - [`daemon`]: a process that was started. [`pid_file`]: the file; a process is recognized by its number and its start.

mod daemon;
mod down;
mod pid_file;
mod up;

use std::path::Path;

pub(crate) use self::down::down;
use self::pid_file::PidFile;
pub(crate) use self::up::up;
use crate::config::keys::{self, AnyKey};
use crate::config::{Given, Origin};

/// The usual directory of a cluster.
pub(crate) const DIRECTORY: &str = "tidegate-cluster";

/// The secret, in the directory of a cluster.
const SECRET: &str = "secret";

/// What the cluster in the current directory, if there is one, says of the configuration.
pub(crate) fn in_this_directory() -> Vec<Given> {
    let directory = Path::new(DIRECTORY);
    let secret = directory.join(SECRET);
    let mut given = Vec::new();
    let mut add = |key: &'static dyn AnyKey, text: &str| {
        given.push(Given { key, text: text.to_owned(), origin: Origin::LocalCluster(directory.to_owned()) });
    };
    if let Some(secret) = secret.to_str().filter(|_| secret.is_file()) {
        add(&keys::SECRET_FILE, secret);
    }
    if let Ok(Some(file)) = PidFile::read(directory) {
        add(&keys::JOBMANAGER, &file.jobmanager);
    }
    given
}
