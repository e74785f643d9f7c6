//! Splits a file into lines, a chunk at a time. A limit on the length of a line bounds the memory.
//!
//! The hot path of the source. A chunk is read behind what is left of the last one, its last newline is found from the
//! end, and the whole lines up to there are checked once for being UTF-8; then each line costs one `memchr`. A line
//! that outgrows the limit is skipped: its first bytes and its length are kept, and nothing else.
//!
//! Not here: what a line means, and whether the file's end is the partition's.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidegate_protocol::{Error, Result};

use super::storage;

/// How much is read at once, and how much memory a partition of ordinary lines takes.
const CHUNK_BYTES: usize = 64 << 10;
/// How much of a line that is too long is kept.
const KEPT_BYTES: usize = 4 << 10;
/// How often a followed file is looked up by its name while reading waits at its end.
const LOOK_UP_EVERY: Duration = Duration::from_millis(100);

/// A file that is being split into lines.
pub(super) struct Lines {
    path: PathBuf,
    file: File,
    max_line_bytes: usize,
    /// The file's bytes from offset `base` on, as far as `end`.
    buffer: Vec<u8>,
    base: u64,
    /// `start..whole` are whole lines that were not passed on yet; `whole..end` is the beginning of the next line.
    start: usize,
    whole: usize,
    end: usize,
    /// Whether `start..whole` as it was read is UTF-8.
    utf8: bool,
    /// The line that is too long and whose end is not read yet; then the buffer holds what comes behind it.
    skipped: Option<Skipped>,
    looked_up: Option<Instant>,
}

struct Skipped {
    offset: u64,
    bytes: u64,
    first: Vec<u8>,
}

/// A line that is not blank, without its newline or CRLF.
pub(super) enum Line<'a> {
    /// All of it. `utf8` says that it is known to be UTF-8.
    Whole { bytes: &'a [u8], utf8: bool },
    /// It is longer than the limit; its first bytes, cut between two characters, and its length.
    TooLong { first: &'a [u8], bytes: u64 },
}

impl Lines {
    /// Opens a file at an offset that a line starts at.
    ///
    /// A bounded read takes a last line without its newline as a line, so it may have stopped in front of a newline that
    /// was written later. A `bounded` one may also go on at such an end of the file, to find that nothing follows.
    pub(super) fn open(path: PathBuf, offset: u64, bounded: bool, max_line_bytes: usize) -> Result<Self> {
        let file = File::open(&path).map_err(|e| cannot_open(&path, offset, e))?;
        let metadata = file.metadata().map_err(|e| storage::failed("look at", &path, e))?;
        if !metadata.is_file() {
            return Err(Error::job(format!(
                "{} is not a file, so it cannot be read as a partition",
                path.display()
            )));
        }
        check_offset(&file, &path, offset, metadata.len(), bounded)?;
        let buffer = vec![0; CHUNK_BYTES];
        let (base, start, whole, end, utf8) = (offset, 0, 0, 0, false);
        Ok(Self {
            path,
            file,
            max_line_bytes,
            buffer,
            base,
            start,
            whole,
            end,
            utf8,
            skipped: None,
            looked_up: None,
        })
    }

    /// The offset behind the last line that was passed on.
    pub(super) fn position(&self) -> u64 {
        self.skipped.as_ref().map_or(self.base + self.start as u64, |skipped| skipped.offset)
    }

    /// Passes at most `budget` whole lines to `each`, and returns their number.
    #[inline]
    pub(super) fn hand_out(&mut self, budget: usize, mut each: impl FnMut(u64, Line<'_>)) -> usize {
        let mut left = budget;
        if left > 0 && self.start < self.whole && self.skipped.is_some() {
            self.hand_out_skipped(&mut each);
            left -= 1;
        }
        while left > 0 && self.start < self.whole {
            let lines = &self.buffer[self.start..self.whole];
            let length = memchr::memchr(b'\n', lines).unwrap_or(lines.len());
            let offset = self.base + self.start as u64;
            self.start += length + 1;
            if let Some(line) = line(&lines[..length], self.utf8, self.max_line_bytes) {
                each(offset, line);
                left -= 1;
            }
        }
        budget - left
    }

    /// Passes on what is behind the last newline: at the end of a bounded read that is a line. Returns the number of lines.
    pub(super) fn hand_out_rest(&mut self, mut each: impl FnMut(u64, Line<'_>)) -> usize {
        debug_assert_eq!(self.start, self.whole, "whole lines come first");
        if self.skipped.is_some() {
            self.hand_out_skipped(&mut each);
            return 1;
        }
        let offset = self.base + self.start as u64;
        let rest = &self.buffer[self.start..self.end];
        (self.start, self.whole) = (self.end, self.end);
        match line(rest, false, self.max_line_bytes) {
            Some(line) => each(offset, line),
            None => return 0,
        }
        1
    }

    #[cold]
    fn hand_out_skipped(&mut self, each: &mut impl FnMut(u64, Line<'_>)) {
        let Some(skipped) = self.skipped.take() else { return };
        let lines = &self.buffer[self.start..self.whole];
        let length = memchr::memchr(b'\n', lines).unwrap_or(lines.len());
        self.start = self.whole.min(self.start + length + 1);
        let bytes = skipped.bytes + length as u64;
        each(skipped.offset, Line::TooLong { first: whole_characters(&skipped.first), bytes });
    }

    /// Reads the next chunk, after all whole lines were passed on. Returns the number of bytes; 0 at the file's end.
    pub(super) fn fill(&mut self) -> Result<usize> {
        debug_assert_eq!(self.start, self.whole, "lines that wait would be lost");
        self.make_room();
        let before = self.end;
        let read = self.read()?;
        self.end += read;
        if let Some(newline) = memchr::memrchr(b'\n', &self.buffer[before..self.end]) {
            self.whole = before + newline + 1;
            self.utf8 = simdutf8::basic::from_utf8(&self.buffer[self.start..self.whole]).is_ok();
        } else if self.skipped.is_some() || self.end - self.start > self.unfinished_bytes_max() {
            self.skip();
        }
        Ok(read)
    }

    fn read(&mut self) -> Result<usize> {
        loop {
            match self.file.read_at(&mut self.buffer[self.end..], self.base + self.end as u64) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => {
                    return read.map_err(|e| {
                        storage::failed("read", &self.path, e)
                            .context(format_args!("at offset {}", self.position()))
                    });
                }
            }
        }
    }

    /// The most that is kept of a line whose end is not known: it may end in a `\r` that does not count, and what is
    /// kept of a line that is too long must not depend on the pieces it was read in.
    fn unfinished_bytes_max(&self) -> usize {
        self.max_line_bytes.saturating_add(1).max(KEPT_BYTES)
    }

    /// Moves the beginning of a line to the front, and makes sure that there is room to read behind it.
    fn make_room(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.base += self.start as u64;
        self.end -= self.start;
        (self.start, self.whole) = (0, 0);
        if self.end < CHUNK_BYTES / 2 && self.buffer.len() > CHUNK_BYTES {
            self.buffer.truncate(CHUNK_BYTES);
            self.buffer.shrink_to_fit();
        } else if self.buffer.len() - self.end < CHUNK_BYTES / 2 {
            let most = self.unfinished_bytes_max().saturating_add(CHUNK_BYTES);
            // The buffer grows in few steps, because the allocator keeps the freed buffers of all earlier sizes.
            let bytes = (self.buffer.len() * 8).min(most);
            self.buffer.reserve_exact(bytes - self.buffer.len());
            self.buffer.resize(bytes, 0);
        }
    }

    /// Discards what was read of a line that is too long, but for its first bytes.
    #[cold]
    fn skip(&mut self) {
        let rest = &self.buffer[self.start..self.end];
        let offset = self.base + self.start as u64;
        let skipped = self.skipped.get_or_insert_with(|| Skipped {
            offset,
            bytes: 0,
            first: rest[..rest.len().min(KEPT_BYTES)].to_vec(),
        });
        skipped.bytes += rest.len() as u64;
        self.base += self.end as u64;
        (self.start, self.whole, self.end) = (0, 0, 0);
    }

    /// At the file's end: whether the file still holds all that was read of it and, if more is to come, still has its
    /// name. The name is looked up only now and then, as this is called at every poll that finds nothing new.
    pub(super) fn check_end(&mut self, more_to_come: bool) -> Result<()> {
        let read = self.base + self.end as u64;
        let metadata = self.file.metadata().map_err(|e| storage::failed("look at", &self.path, e))?;
        if metadata.len() < read {
            return Err(Error::job(format!(
                "{} was cut to {} bytes while it was read, up to offset {read}: lines may be lost; append to a partition \
                 and rotate it by beginning a new part-*.jsonl",
                self.path.display(),
                metadata.len()
            )));
        }
        if !more_to_come || self.looked_up.is_some_and(|at| at.elapsed() < LOOK_UP_EVERY) {
            return Ok(());
        }
        self.looked_up = Some(Instant::now());
        let identity = |of: &std::fs::Metadata| (of.dev(), of.ino());
        let what = match std::fs::metadata(&self.path) {
            Ok(now) if identity(&now) == identity(&metadata) => return Ok(()),
            Ok(_) => "replaced by another file",
            Err(error) if error.kind() == io::ErrorKind::NotFound => "removed or renamed",
            Err(error) => return Err(storage::failed("look at", &self.path, error)),
        };
        Err(Error::job(format!(
            "{} was {what} while it was followed; it was read up to offset {}, its end at that time: put the old file \
             back, and rotate a partition by beginning a new part-*.jsonl",
            self.path.display(),
            self.position()
        )))
    }
}

/// Makes a line of the bytes in front of a newline; None if it is blank.
#[inline]
fn line(bytes: &[u8], utf8: bool, max_line_bytes: usize) -> Option<Line<'_>> {
    let content = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if content.len() > max_line_bytes {
        return Some(too_long(bytes));
    }
    match content.first() {
        Some(first) if !is_blank(first) => {}
        _ if content.iter().all(is_blank) => return None,
        _ => {}
    }
    Some(Line::Whole { bytes: content, utf8 })
}

#[cold]
fn too_long(bytes: &[u8]) -> Line<'_> {
    let first = whole_characters(&bytes[..bytes.len().min(KEPT_BYTES)]);
    Line::TooLong { first, bytes: bytes.len() as u64 }
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

/// Removes an incomplete last character, so that the beginning of a UTF-8 text is UTF-8, too.
fn whole_characters(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    }
}

fn cannot_open(path: &Path, offset: u64, error: io::Error) -> Error {
    let error = storage::failed("open", path, error);
    if offset == 0 {
        return error;
    }
    error.context(format_args!(
        "reading cannot go on at offset {offset}; put the file back, or start anew without a snapshot (alone with an empty --checkpoint-dir) and with empty output \
             directories"
    ))
}

fn check_offset(file: &File, path: &Path, offset: u64, length: u64, bounded: bool) -> Result<()> {
    if offset > length {
        return Err(Error::job(format!(
            "{} has {length} bytes, but was read up to offset {offset} before: it was cut or replaced; put the old file \
             back, or start anew without a snapshot (alone with an empty --checkpoint-dir) and with empty output \
             directories",
            path.display()
        )));
    }
    if offset == 0 || (bounded && offset == length) {
        return Ok(());
    }
    let mut around = [0; 3];
    let length = read_around(file, &mut around, offset - 1).map_err(|e| storage::failed("read", path, e))?;
    match &around[..length] {
        [b'\n', ..] | [_, b'\n', ..] | [_, b'\r', b'\n'] => Ok(()),
        [_] => Err(Error::job(format!(
            "{} ends at offset {offset} without a newline, and its last line was read already: end it with a newline to \
             follow the file",
            path.display()
        ))),
        _ => Err(Error::job(format!(
            "offset {offset} of {} is not the start of a line: a last line without a newline has grown after it was \
             read, or the file was replaced; put the old file back, or start anew without a snapshot (alone with an empty --checkpoint-dir) and with empty output \
             directories",
            path.display()
        ))),
    }
}

fn read_around(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines_of(content: &[u8], max_line_bytes: usize) -> (Lines, tempfile::NamedTempFile) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        (Lines::open(file.path().to_owned(), 0, true, max_line_bytes).unwrap(), file)
    }

    fn all(lines: &mut Lines) -> Vec<(u64, String)> {
        let mut all = Vec::new();
        let mut each = |offset, line: Line<'_>| match line {
            Line::Whole { bytes, .. } => all.push((offset, String::from_utf8_lossy(bytes).into_owned())),
            Line::TooLong { first, bytes } => all.push((offset, format!("{bytes}: {} kept", first.len()))),
        };
        while lines.fill().unwrap() > 0 {
            lines.hand_out(usize::MAX, &mut each);
        }
        lines.hand_out_rest(each);
        all
    }

    #[test]
    fn a_file_is_cut_at_newlines_and_blank_lines_are_skipped() {
        let (mut lines, _file) = lines_of(b"a\n\nbc\r\n \t\r\n\r\r\nd\re\n f\nlast", 100);
        let expected = [(0, "a"), (3, "bc"), (14, "d\re"), (18, " f"), (21, "last")];
        assert_eq!(all(&mut lines), expected.map(|(offset, text)| (offset, text.to_owned())));
        assert_eq!(lines.position(), 25);
    }

    #[test]
    fn a_budget_leaves_the_rest_for_later() {
        let (mut lines, _file) = lines_of(b"a\nb\n\nc\n", 100);
        lines.fill().unwrap();
        let mut texts = Vec::new();
        for expected in [0, 2, 4, 7] {
            assert_eq!(lines.position(), expected);
            lines.hand_out(1, |offset, _| texts.push(offset));
        }
        assert_eq!(texts, [0, 2, 5]);
    }

    #[test]
    fn the_limit_counts_the_content_only() {
        let (mut lines, _file) = lines_of(b"1234\r\n1234\n12345\n12345\r\n1234", 4);
        let expected = [(0, "1234"), (6, "1234"), (11, "5: 5 kept"), (17, "6: 6 kept"), (24, "1234")];
        assert_eq!(all(&mut lines), expected.map(|(offset, text)| (offset, text.to_owned())));
    }

    #[test]
    fn a_line_of_any_length_is_skipped_in_bounded_memory() {
        let max = 1 << 20;
        let (mut lines, file) = lines_of(b"a\n", max);
        let mut file = file.as_file();
        let long = vec![b'x'; 5 << 20];
        file.write_all(&long).unwrap();
        file.write_all(b"\nb\n").unwrap();
        file.write_all(&long[..max]).unwrap();
        file.write_all(b"\r\nc\n").unwrap();
        file.write_all(&long).unwrap();
        let mut found = Vec::new();
        let mut most = 0;
        let mut each = |offset, line: Line<'_>| match line {
            Line::Whole { bytes, .. } => found.push((offset, bytes.len() as u64)),
            Line::TooLong { first, bytes } => {
                assert_eq!(first.len(), KEPT_BYTES);
                found.push((offset, bytes));
            }
        };
        while lines.fill().unwrap() > 0 {
            lines.hand_out(usize::MAX, &mut each);
            most = most.max(lines.buffer.capacity());
        }
        lines.hand_out_rest(each);
        let (long, max) = (long.len() as u64, max as u64);
        let offsets = [0, 2, long + 3, long + 5, long + max + 7, long + max + 9];
        assert_eq!(found, offsets.into_iter().zip([1, long, 1, max, 1, long]).collect::<Vec<_>>());
        assert!(most <= 2 * CHUNK_BYTES + max as usize, "{most}");
        assert_eq!(lines.position(), 2 * long + max + 9);
        lines.fill().unwrap();
        assert_eq!(lines.buffer.capacity(), CHUNK_BYTES, "the memory of a long line is given back");
    }

    #[test]
    fn what_is_kept_of_a_long_line_is_cut_between_characters() {
        let text = "é".repeat(KEPT_BYTES);
        let (mut lines, _file) = lines_of(format!("x{text}\n").as_bytes(), 10);
        assert_eq!(all(&mut lines), [(0, format!("{}: {} kept", 1 + text.len(), KEPT_BYTES - 1))]);
        assert_eq!(whole_characters(b"a\xff"), b"a\xff");
    }

    #[test]
    fn an_offset_must_be_the_start_of_a_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = |content: &str, offset, bounded| {
            std::fs::write(file.path(), content).unwrap();
            Lines::open(file.path().to_owned(), offset, bounded, 100).err().map(|e| e.to_string())
        };
        for bounded in [true, false] {
            for offset in [0, 2, 6] {
                assert_eq!(open("a\nbcd\n", offset, bounded), None);
            }
            assert_eq!(open("a\nb\n", 3, bounded), None, "a newline was put behind the last line");
            assert_eq!(open("a\nb\r\n", 3, bounded), None, "and so was a CRLF");
            let middle = open("a\nbcd\n", 3, bounded).unwrap();
            assert!(
                middle.starts_with("offset 3 of ") && middle.contains("not the start of a line"),
                "{middle}"
            );
            let beyond = open("a\nbcd\n", 7, bounded).unwrap();
            assert!(beyond.contains("has 6 bytes, but was read up to offset 7"), "{beyond}");
        }
        assert_eq!(open("a\nb", 3, true), None);
        let followed = open("a\nb", 3, false).unwrap();
        assert!(followed.contains("ends at offset 3 without a newline"), "{followed}");
    }
}
