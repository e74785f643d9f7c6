//! What must come out, computed as simply as it can be, and compared with what did.
//!
//! What is late depends on how records come together in batches, so the oracle does not say which records are: it says
//! that each is late, or else in its windows. The last window of a record closes last, so that one has it exactly if the
//! record was not late for all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate::connector::DeadLetter;

use crate::job::{MAX_LINE_BYTES, Row, Shape, Told, Window};
use crate::lines::Files;

type Checked = Result<(), TestCaseError>;

/// Where a line stands: its partition and the offset of its first byte.
type Place = (String, u64);

/// What a line is.
enum Found {
    Row(Row),
    /// No row, with what is to be kept of it.
    Malformed(Vec<u8>),
}

pub(crate) fn check(files: &Files, shape: &Shape, root: &Path) -> Checked {
    let mut accepted = Vec::new();
    let (mut malformed, mut implausible, mut refused) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for (place, found) in files.iter().flat_map(|(name, bytes)| lines(name, bytes)) {
        match found {
            Found::Malformed(raw) => drop(malformed.insert(place, raw)),
            Found::Row(row) if row.refuse => drop(refused.insert(place)),
            Found::Row(row) if !(-(1 << 60)..=1 << 60).contains(&row.at) => drop(implausible.insert(place)),
            Found::Row(row) => accepted.push(row),
        }
    }
    check_letters(root, &malformed, &implausible, &refused)?;
    check_windows(&accepted, |row| i128::from(row.at), shape, root, "windows", "late")?;
    let told: Vec<Told> = read(root, "told");
    check_told(&accepted, &told, &read(root, "side"))?;
    check_windows(&told, told_at, shape, root, "told_windows", "told_late")
}

/// A timer for the least of all times gives a record the time after it, because the least one stands for none.
fn told_at(told: &Told) -> i128 {
    match told {
        Told::Row(row) => row.at.into(),
        Told::Fired { at, .. } => i128::from(*at).max(i128::from(i64::MIN) + 1),
    }
}

/// The lines of a file that are not blank.
fn lines(name: &str, bytes: &[u8]) -> Vec<(Place, Found)> {
    let (mut found, mut offset) = (Vec::new(), 0);
    for with_newline in bytes.split_inclusive(|byte| *byte == b'\n') {
        let place = (name.to_owned(), offset);
        offset += with_newline.len() as u64;
        let raw = with_newline.strip_suffix(b"\n").unwrap_or(with_newline);
        let line = raw.strip_suffix(b"\r").unwrap_or(raw);
        if line.len() > MAX_LINE_BYTES {
            found.push((place, Found::Malformed(raw[..4_096].to_vec())));
        } else if !line.iter().all(|byte| b" \t\r".contains(byte)) {
            let row = std::str::from_utf8(line).ok().and_then(|text| serde_json::from_str(text).ok());
            found.push((place, row.map_or_else(|| Found::Malformed(line.to_vec()), Found::Row)));
        }
    }
    found
}

fn check_letters(
    root: &Path,
    malformed: &BTreeMap<Place, Vec<u8>>,
    implausible: &BTreeSet<Place>,
    refused: &BTreeSet<Place>,
) -> Checked {
    let (mut raws, mut without) = (BTreeMap::new(), BTreeSet::new());
    for letter in read::<DeadLetter>(root, "dead") {
        let place = (letter.partition.unwrap(), letter.offset.unwrap());
        let raw =
            letter.raw.map(String::into_bytes).or(letter.raw_base64.map(|raw| BASE64.decode(raw).unwrap()));
        let is_new = match raw {
            Some(raw) => raws.insert(place, raw).is_none(),
            None => letter.error.contains("is not plausible") && without.insert(place),
        };
        prop_assert!(is_new, "a line has two letters, or one without its bytes: {}", letter.error);
    }
    prop_assert_eq!(&raws, malformed);
    prop_assert_eq!(&without, implausible);
    let letters = read::<DeadLetter>(root, "refused").into_iter();
    let mut places: Vec<Place> = letters.map(|l| (l.partition.unwrap(), l.offset.unwrap())).collect();
    places.sort();
    prop_assert_eq!(places, refused.iter().cloned().collect::<Vec<_>>());
    Ok(())
}

/// Every row is told, or is one that was told before. Every timer that was set has fired, no more often than it was set.
fn check_told(accepted: &[Row], told: &[Told], side: &[Row]) -> Checked {
    let (mut rows, mut fired) = (Vec::new(), Vec::new());
    for told in told {
        match told {
            Told::Row(row) => rows.push(row.clone()),
            Told::Fired { key, at, processing } => fired.push((key.clone(), *at, *processing)),
        }
    }
    let ids: BTreeSet<_> = rows.iter().map(|row| (&row.key, row.id)).collect();
    prop_assert_eq!(ids.len(), rows.len(), "a number of a key was told twice");
    rows.extend_from_slice(side);
    prop_assert_eq!(counted(&rows), counted(accepted));
    let set = accepted.iter().filter_map(|row| Some((row.key.clone(), row.timer?.0, row.timer?.1)));
    let (set, fired) = (counted(&set.collect::<Vec<_>>()), counted(&fired));
    prop_assert_eq!(set.keys().collect::<Vec<_>>(), fired.keys().collect::<Vec<_>>());
    prop_assert!(
        set.iter().all(|(timer, times)| fired[timer] <= *times),
        "a timer has fired more often than it was set"
    );
    Ok(())
}

/// The time that counts for windows: all of them end at `i64::MAX`, and what is set for that counts as a millisecond before.
fn in_windows(time: i128) -> i128 {
    time.min(i128::from(i64::MAX - 1))
}

fn check_windows<T: Serialize + DeserializeOwned>(
    records: &[T],
    at: fn(&T) -> i128,
    shape: &Shape,
    root: &Path,
    name: &str,
    late_name: &str,
) -> Checked {
    let late = counted(&read::<T>(root, late_name));
    // A window is put out again when a late record in time is added to it: the last result has them all.
    let mut windows: BTreeMap<(i64, String), BTreeMap<String, usize>> = BTreeMap::new();
    for out in read::<Window<T>>(root, name) {
        let (start, end) = (out.window.start, out.window.end);
        prop_assert!(i128::from(end) == end_of(start, shape), "the window {start}..{end}");
        for record in &out.value {
            let time = in_windows(at(record));
            prop_assert!(i128::from(start) <= time, "a record is in a window behind it");
            prop_assert!(
                time < i128::from(start) + i128::from(shape.size),
                "a record is in a window before it"
            );
        }
        let (all, before) = (counted(&out.value), windows.entry((start, out.key)).or_default());
        if all.values().sum::<usize>() > before.values().sum() {
            *before = all;
        }
    }
    let mut found: BTreeMap<String, usize> = late;
    for ((start, _), records) in &windows {
        for (record, times) in records {
            let time = in_windows(at(&serde_json::from_str(record).unwrap()));
            let is_last = i128::from(*start) == last_start(time, shape);
            *found.entry(record.clone()).or_default() += if is_last { *times } else { 0 };
        }
    }
    found.retain(|_, times| *times > 0);
    prop_assert_eq!(found, counted(records), "{} and {}", name, late_name);
    Ok(())
}

/// The start of the last window that covers `time`; none begins at the least of all times, which stands for no time.
fn last_start(time: i128, shape: &Shape) -> i128 {
    let slide = i128::from(shape.slide);
    (time.div_euclid(slide) * slide).max(i128::from(i64::MIN) + 1)
}

fn end_of(start: i64, shape: &Shape) -> i128 {
    (i128::from(start) + i128::from(shape.size)).min(i128::from(i64::MAX))
}

/// How often each is there.
fn counted<T: Serialize>(all: &[T]) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for one in all {
        *counted.entry(serde_json::to_string(one).unwrap()).or_default() += 1;
    }
    counted
}

/// All rows of the visible files of a directory.
fn read<T: DeserializeOwned>(root: &Path, name: &str) -> Vec<T> {
    let files = fs::read_dir(root.join(name)).unwrap().map(|entry| entry.unwrap());
    let visible = files.filter(|file| !file.file_name().to_string_lossy().starts_with('.'));
    let texts = visible.map(|file| fs::read_to_string(file.path()).unwrap());
    texts
        .flat_map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>())
        .collect()
}
