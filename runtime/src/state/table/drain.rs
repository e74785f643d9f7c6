//! How a table is emptied: entries in memory first, then rows that only the store has.

use tidegate_protocol::Result;

use super::{Namespace, Table, Value};
use crate::key::Key;
use crate::state::store::{Row, Rows, Store};

/// How far a table is emptied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Drained {
    /// It is not being emptied.
    #[default]
    Nothing,
    /// Entries before this one.
    Entries(usize),
    /// All entries, and rows of the store up to this one: its key group, and its whole key.
    Rows(u16, Vec<u8>),
    /// Everything.
    All,
}

impl<K: Key, V: Value> Table<K, V> {
    /// Takes out up to `most` entries, those in memory first, then those that only the store has; true if nothing is left.
    /// An entry that is taken out is gone, also in the next snapshot. Nothing may be added while the table is emptied.
    ///
    /// # Errors
    /// If the store cannot be read, or an error of `each`.
    pub(crate) fn drain(
        &mut self,
        store: &Store,
        most: usize,
        mut each: impl FnMut(u64, &K, V) -> Result<()>,
    ) -> Result<bool> {
        let mut left = most;
        if let Drained::Nothing = self.drained {
            self.drained = Drained::Entries(0);
        }
        if let Drained::Entries(first) = self.drained {
            let mut i = first;
            while i < self.entries.len() && left > 0 {
                left -= usize::from(self.drain_entry(store, i as u32, &mut each)?);
                i += 1;
            }
            self.drained = if i < self.entries.len() {
                Drained::Entries(i)
            } else if self.is_in_store() {
                Drained::Rows(store.owned.start, Vec::new())
            } else {
                Drained::All
            };
        }
        if let Drained::Rows(..) = self.drained
            && left > 0
        {
            self.drain_rows(store, left, &mut each)?;
        }
        Ok(self.drained == Drained::All)
    }

    /// Takes the value of an entry out; true if there was one.
    pub(super) fn drain_entry(
        &mut self,
        store: &Store,
        i: u32,
        each: &mut impl FnMut(u64, &K, V) -> Result<()>,
    ) -> Result<bool> {
        if self.entries[i as usize].value.is_none() {
            return Ok(false);
        }
        let value = self.touch(store, i)?.value.take();
        let entry = &self.entries[i as usize];
        if let Some(value) = value {
            each(entry.hash, &entry.key, value)?;
        }
        Ok(true)
    }

    /// Takes out rows that only the store has.
    pub(super) fn drain_rows(
        &mut self,
        store: &Store,
        most: usize,
        each: &mut impl FnMut(u64, &K, V) -> Result<()>,
    ) -> Result<()> {
        let Drained::Rows(group, after) = std::mem::take(&mut self.drained) else { return Ok(()) };
        let (place, mut rows) = (self.place, Vec::with_capacity(most));
        let behind =
            store.scan_place(place.operator, place.namespace, group, &after, most, |row| rows.push(row))?;
        for row in rows {
            let row: Row<K, V> = row;
            if self.find(row.hash, &row.key).is_none() {
                each(row.hash, &row.key, row.value)?;
            }
        }
        self.drained = behind.map_or(Drained::All, |(group, key)| Drained::Rows(group, key));
        Ok(())
    }

    /// True if the row of a key has been taken out of the store by [`Table::drain`].
    pub(super) fn has_drained(&self, store: &Store, hash: u64, key: &K) -> Result<bool> {
        Ok(match &self.drained {
            Drained::Nothing | Drained::Entries(_) => false,
            Drained::Rows(_, last) => self.row(store, hash, key).encoded()? <= *last,
            Drained::All => true,
        })
    }

    /// Adds to `rows` the deletion of what [`Table::drain`] has taken out of the store.
    pub(crate) fn delete_drained(&self, store: &Store, rows: &mut Rows) {
        let Namespace { operator, namespace } = self.place;
        if let Drained::Rows(group, last) = &self.drained {
            rows.delete_namespace(operator, store.owned.start..*group, namespace);
            rows.delete_up_to(operator, *group, namespace, last);
        }
    }
}
