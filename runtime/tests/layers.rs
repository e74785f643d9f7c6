//! The modules of the crate in layers: each imports only modules below it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// From bottom to top. A module may import what stands before it.
const LAYERS: &[&str] = &[
    "panics",
    "exit",
    "thread_group",
    "clock",
    "allocator",
    "step",
    "metrics",
    "fingerprint",
    "data",
    "key",
    "watermark",
    "window",
    "aggregates",
    "working_directory",
    "attempt",
    "link",
    "activity",
    "state",
    "timer",
    "key_context",
    "keyed_process",
    "checkpoint",
    "dataflow",
    "operators",
    "api",
    "job_process",
    "local",
    "cluster",
    "internals",
    "shell",
    "testing",
];

/// All sources below a directory, but for unit tests in files of their own.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests" {
            found.push(path);
        }
    }
}

/// The module of the first level that a file belongs to.
fn module_of(root: &Path, path: &Path) -> String {
    let first = path.strip_prefix(root).unwrap().iter().next().unwrap();
    Path::new(first).file_stem().unwrap().to_string_lossy().into_owned()
}

/// The modules of the first level that a source names, unit tests at its end excepted: every `crate::name`, wherever it
/// stands in a line of code.
fn imports(source: &str) -> BTreeSet<String> {
    let code = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let names = lines.flat_map(|line| line.split("crate::").skip(1));
    let names = names.inspect(|rest| assert!(!rest.starts_with('{'), "a list of modules: use crate::{rest}"));
    let name = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    names.map(name).collect()
}

#[test]
fn every_module_imports_only_modules_below_it() {
    let root = Path::new("src");
    let layer = |module: &str| LAYERS.iter().position(|name| *name == module);
    let mut files = Vec::new();
    sources(root, &mut files);
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for path in files.iter().filter(|path| path.file_name().is_some_and(|name| name != "lib.rs")) {
        let module = module_of(root, path);
        let Some(own) = layer(&module) else {
            wrong.push(format!("{}: the module '{module}' has no layer", path.display()));
            continue;
        };
        seen.insert(module.clone());
        for import in imports(&fs::read_to_string(path).unwrap()) {
            if layer(&import).is_some_and(|other| other > own) {
                wrong.push(format!("{}: '{module}' imports '{import}', which is above it", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let unused: Vec<_> = LAYERS.iter().filter(|name| !seen.contains(**name)).collect();
    assert!(unused.is_empty(), "layers without a module: {unused:?}");
}

#[test]
fn imports_are_found_wherever_they_stand() {
    let source = "use crate::state::store::Row;\n// crate::shell\nfn f(x: crate::key::Key) -> crate::dataflow::X {}\n\
                  #[cfg(test)]\nmod tests { use crate::testing; }";
    let names = ["dataflow", "key", "state"].map(str::to_owned);
    assert_eq!(imports(source), BTreeSet::from(names));
}
