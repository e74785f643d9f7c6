//! How far a running job has come: what it has published, as any reader sees it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tidegate_chaos::workbench::Workbench;
use tidegate_chaos::{Result, visible};

/// The visible files, each read once.
pub(crate) struct Published<'a> {
    bench: &'a Workbench,
    expected: usize,
    rows: HashMap<PathBuf, usize>,
    dead_letters: usize,
}

impl Published<'_> {
    pub(crate) fn new(bench: &Workbench, expected: usize) -> Published<'_> {
        Published { bench, expected, rows: HashMap::new(), dead_letters: 0 }
    }

    pub(crate) fn forget(&mut self) {
        self.rows.clear();
        self.dead_letters = 0;
    }

    /// Files of output and dead letters.
    pub(crate) fn files(&self) -> usize {
        self.rows.len() + self.dead_letters
    }

    /// The part of the expected windows that is published, as of the last look.
    pub(crate) fn part(&self) -> f64 {
        self.rows.values().sum::<usize>() as f64 / self.expected.max(1) as f64
    }

    /// Reads what is new, and returns the part.
    pub(crate) fn look(&mut self) -> Result<f64> {
        self.dead_letters = visible::names(&self.bench.dead_letters)?.len();
        for name in visible::names(&self.bench.output)? {
            let path = self.bench.output.join(&name);
            if !self.rows.contains_key(&path) {
                let rows = count(&self.bench.output, name)?;
                self.rows.insert(path, rows);
            }
        }
        Ok(self.part())
    }
}

fn count(dir: &Path, name: String) -> Result<usize> {
    Ok(visible::rows(&visible::file(dir, name)?.bytes).count())
}
