//! The configuration of daemons and of the command line: what is in force, and where it comes from.
//!
//! A value of a flag outweighs one of the environment, that outweighs one of the configuration file, and that what is known of
//! the cluster in `./tidegate-cluster`; behind all of them are the defaults. All values are checked when the configuration is
//! loaded, also those that the process does not need, so that a mistake is found early.
//!
//! Not here: the settings of a single job (`tidegate run -D`), which the jobmanager knows.

mod default_file;
mod file;
pub(crate) mod keys;
mod origin;
mod show;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use tidegate_protocol::{Error, Result};

pub(crate) use self::default_file::DefaultFile;
use self::keys::{AnyKey, Default, Key};
pub(crate) use self::origin::Origin;
pub(crate) use self::show::show;

/// A value that is in force.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

/// A value that is given by a flag, or by the cluster in `./tidegate-cluster`.
pub(crate) struct Given {
    pub(crate) key: &'static dyn AnyKey,
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

impl Given {
    /// The value of a flag, which clap has checked.
    pub(crate) fn flag(key: &'static dyn AnyKey, flag: &'static str, text: impl Into<String>) -> Self {
        Self { key, text: text.into(), origin: Origin::Flag(flag) }
    }
}

/// Where the configuration is loaded from.
pub(crate) struct Sources<'a> {
    /// Values of flags.
    pub(crate) flags: Vec<Given>,
    /// Reads an environment variable.
    pub(crate) environment: &'a dyn Fn(&str) -> Option<OsString>,
    /// The configuration file of `--config`.
    pub(crate) file: Option<PathBuf>,
    /// The configuration file if none is named.
    pub(crate) usual_file: Option<PathBuf>,
    /// What is known of the cluster in the current directory.
    pub(crate) local_cluster: Vec<Given>,
}

impl<'a> Sources<'a> {
    /// Those of this process.
    pub(crate) fn of_process(flags: Vec<Given>, file: Option<PathBuf>, local_cluster: Vec<Given>) -> Self {
        let environment = &|variable: &str| std::env::var_os(variable);
        Sources { flags, environment, file, usual_file: file::usual(), local_cluster }
    }
}

/// The values that are in force.
pub(crate) struct Config {
    entries: BTreeMap<&'static str, Entry>,
}

impl Config {
    pub(crate) fn load(sources: Sources<'_>) -> Result<Self> {
        let mut config = Self { entries: BTreeMap::new() };
        config.take_defaults();
        config.take_given(sources.local_cluster);
        let of_environment = || (sources.environment)("TIDEGATE_CONFIG").filter(|path| !path.is_empty());
        let named = sources.file.or_else(|| of_environment().map(PathBuf::from));
        if let Some(path) = named.or(sources.usual_file) {
            config.take_file(path)?;
        }
        config.take_environment(sources.environment)?;
        config.take_given(sources.flags);
        Ok(config)
    }

    fn set(&mut self, key: &dyn AnyKey, text: String, origin: Origin) {
        self.entries.insert(key.name(), Entry { text, origin });
    }

    fn take_defaults(&mut self) {
        for key in keys::ALL {
            let text = match key.default() {
                Default::Is(text) => Some(text.to_owned()),
                Default::Found { find, .. } => find(),
                Default::None { .. } => None,
            };
            if let Some(text) = text {
                self.set(*key, text, Origin::Default);
            }
        }
    }

    fn take_given(&mut self, given: Vec<Given>) {
        for Given { key, text, origin } in given {
            self.set(key, text, origin);
        }
    }

    fn take_file(&mut self, path: PathBuf) -> Result<()> {
        for line in file::read(&path)? {
            self.set(line.key, line.text, Origin::File { path: path.clone(), line: line.number });
        }
        Ok(())
    }

    /// An empty variable is one that is not set.
    fn take_environment(&mut self, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<()> {
        for key in keys::ALL {
            let variable = key.variable();
            let Some(value) = environment(variable).filter(|value| !value.is_empty()) else { continue };
            let invalid = |reason: &str| {
                Error::environment(format!("the environment variable {variable} is invalid: {reason}"))
            };
            let text = value.into_string().map_err(|_| invalid("it is not UTF-8 text"))?;
            key.check(&text).map_err(|reason| invalid(&reason))?;
            self.set(*key, text, Origin::Environment(variable));
        }
        Ok(())
    }

    /// The entry of a key, if it is set or has a default.
    pub(crate) fn entry(&self, key: &dyn AnyKey) -> Option<&Entry> {
        self.entries.get(key.name())
    }

    /// The value of a key, if it is set or has a default.
    pub(crate) fn find<T>(&self, key: &Key<T>) -> Result<Option<T>> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        let invalid = |reason| Error::environment(format!("{} of {}: {reason}", key.name(), entry.origin));
        key.parse(&entry.text).map(Some).map_err(invalid)
    }

    /// The value of a key, which must be set or have a default. The flag is one that sets it.
    pub(crate) fn get<T>(&self, key: &Key<T>, flag: Option<&str>) -> Result<T> {
        self.find(key)?.ok_or_else(|| {
            let (section, own) = key.parts();
            let flag = flag.map_or_else(String::new, |flag| format!("{flag}, "));
            let variable = key.variable();
            Error::environment(format!(
                "{} is not set: give {flag}the environment variable {variable}, or '{own}' in [{section}] of the \
                 configuration file",
                key.name()
            ))
        })
    }
}

#[cfg(test)]
impl Config {
    /// A configuration of flags alone.
    pub(crate) fn of_flags(flags: Vec<Given>) -> Self {
        let (environment, local_cluster) = (&|_: &str| None, Vec::new());
        Self::load(Sources { flags, environment, file: None, usual_file: None, local_cluster }).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Layers<'a> {
        flag: Option<&'a str>,
        variable: Option<&'a str>,
        file: Option<&'a str>,
    }

    fn load(given: &Layers<'_>) -> Result<Config> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tidegate.toml");
        std::fs::write(&path, given.file.unwrap_or_default()).unwrap();
        let environment = |variable: &str| {
            given.variable.filter(|_| variable == "TIDEGATE_TASKMANAGER_SLOTS").map(OsString::from)
        };
        Config::load(Sources {
            flags: given.flag.map(|text| Given::flag(&keys::SLOTS, "--slots", text)).into_iter().collect(),
            environment: &environment,
            file: None,
            usual_file: Some(path),
            local_cluster: vec![Given {
                key: &keys::JOBMANAGER,
                text: "127.0.0.1:9".to_owned(),
                origin: Origin::LocalCluster("tidegate-cluster".into()),
            }],
        })
    }

    #[test]
    fn a_flag_outweighs_the_environment_and_that_the_file_and_that_the_default() {
        let file = Some("[log]\nfiles = 7\n[taskmanager]\nslots = 3\n");
        let slots = |given: &Layers<'_>| {
            let config = load(given).unwrap();
            (config.get(&keys::SLOTS, None).unwrap(), config.entry(&keys::SLOTS).unwrap().origin.clone())
        };
        let all = Layers { flag: Some("5"), variable: Some("4"), file };
        assert_eq!(slots(&all), (5, Origin::Flag("--slots")));
        let (four, origin) = slots(&Layers { flag: None, ..all });
        assert_eq!((four, origin), (4, Origin::Environment("TIDEGATE_TASKMANAGER_SLOTS")));
        let (three, origin) = slots(&Layers { flag: None, variable: Some(""), file });
        assert_eq!((three, origin.to_string().ends_with("tidegate.toml, line 4")), (3, true));
        assert_eq!(slots(&Layers { flag: None, variable: None, file: None }).1, Origin::Default);
        assert_eq!(load(&all).unwrap().get(&keys::LOG_FILES, None).unwrap(), 7);
    }

    #[test]
    fn the_file_outweighs_the_cluster_in_this_directory() {
        let jobmanager = |file| {
            let config = load(&Layers { flag: None, variable: None, file }).unwrap();
            config.get(&keys::JOBMANAGER, None).unwrap().join(",")
        };
        assert_eq!(jobmanager(None), "127.0.0.1:9");
        assert_eq!(jobmanager(Some("[taskmanager]\njobmanager = 'a:1'")), "a:1");
    }

    #[test]
    fn what_is_missing_or_invalid_is_said_with_its_place() {
        let none = Layers { flag: None, variable: None, file: None };
        let error = load(&none).unwrap().get(&keys::JOBMANAGER_DATA, Some("--data")).unwrap_err().to_string();
        assert_eq!(
            error,
            "jobmanager.data is not set: give --data, the environment variable TIDEGATE_JOBMANAGER_DATA, or 'data' in \
             [jobmanager] of the configuration file"
        );
        let error = load(&Layers { variable: Some("many"), ..none }).err().unwrap().to_string();
        assert_eq!(
            error,
            "the environment variable TIDEGATE_TASKMANAGER_SLOTS is invalid: 'many' is not a whole number"
        );
    }
}
