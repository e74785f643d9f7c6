//! A seeded stream of sensor readings, as JSON lines over the partition files of an embedded log.
//!
//! Each device has its own mean temperature, vibration and pressure; in one of ten 5-minute windows it is sick
//! and shakes. Mixed in, at the shares asked for, are rows that a job has to survive: malformed ones (every
//! kind that a gateway has been seen to send), temperatures out of range, rows that come too late, and rows out of
//! order, which come behind newer ones but not too late.
//!
//! A late row is late for every correct reader, however it is paced: its event time lies an hour before the
//! stream's start, and it comes only in the second half, when every partition has long told a watermark. A
//! malformed row is never a valid one by accident, and never an empty line, which the log would skip.
//!
//! The same options give the same bytes. The counts printed at the end are what a job must have counted.

use clap::Parser;
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The job's window, in milliseconds of event time: what `--rows-per-window` counts in.
const WINDOW_MS: u64 = 300_000;
/// How far before the stream's start a late row lies, at least.
const LATE_MS: u64 = 3_600_000;
/// The least time to start at: late rows lie before it.
const LEAST_START_MS: u64 = 3 * LATE_MS;
/// The last event time: up to here a number of JSON is exact for every reader.
const LAST_MS: u64 = 1 << 53;
/// With a rate, rows are appended and flushed this often.
const PACE: Duration = Duration::from_millis(20);

/// Writes a seeded stream of sensor readings: JSON lines, one file a partition.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// Directory of the partition files part-0.jsonl, part-1.jsonl, ...; created if missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Rows to write, over all partitions
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    rows: u64,
    /// Partition files
    #[arg(long, value_name = "P", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=4096))]
    partitions: u64,
    /// Devices, dealt out over the partitions
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    devices: u64,
    /// Rows of one device in one 5-minute window, on average: how fast event time goes
    #[arg(long, value_name = "X", default_value_t = 30.0, value_parser = positive)]
    rows_per_window: f64,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Rows a second, appended steadily and flushed every 20 ms [default: as fast as possible]
    #[arg(long, value_name = "ROWS_PER_SECOND", value_parser = positive)]
    rate: Option<f64>,
    /// Event time of the first row: milliseconds since 1970, or `now`
    /// [default: 1700000000000; with --append, where the files end]
    #[arg(long, value_name = "MS", value_parser = start_time)]
    start_time: Option<u64>,
    /// Share of malformed rows: cut short, wrong types, invalid UTF-8, empty values, garbage
    #[arg(long, value_name = "SHARE", default_value_t = 0.001, value_parser = share)]
    malformed: f64,
    /// Share of rows with a temperature outside 0 to 100
    #[arg(long, value_name = "SHARE", default_value_t = 0.005, value_parser = share)]
    out_of_range: f64,
    /// Share of rows an hour and more before the start (in the second half of the stream only)
    #[arg(long, value_name = "SHARE", default_value_t = 0.0005, value_parser = share)]
    late: f64,
    /// Share of rows that come out of order; the others are each the newest so far
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    out_of_order: f64,
    /// A row that is out of order is up to this much older than the newest one
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    out_of_order_ms: u64,
    /// Writes the counts to this file too
    #[arg(long, value_name = "FILE")]
    counts: Option<PathBuf>,
    /// Adds to the partition files that are there
    #[arg(long, conflicts_with = "force")]
    append: bool,
    /// Deletes the partition files that are there, and nothing else
    #[arg(long)]
    force: bool,
    /// No progress line
    #[arg(long, short)]
    quiet: bool,
}

const EXAMPLES: &str = "\
A row: {\"device_id\":\"dev-00042\",\"timestamp\":1700000000123,\"temperature\":71.52,\"vibration\":0.0231,\"pressure\":101.3}
A device stays in one partition. The same options give the same bytes. At the end the counts are printed
as JSON: rows, malformed, out_of_range, late, bytes.

Examples:
  sensor-data --out data --rows 2000000
  sensor-data --out live --rows 600000 --rate 10000 --start-time now
  sensor-data --out clean --malformed 0 --out-of-range 0 --late 0";

fn positive(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|x: &f64| *x > 0.0 && x.is_finite()).ok_or("must be a number above 0".into())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|x| (0.0..=1.0).contains(x)).ok_or("must be a share from 0 to 1".into())
}

fn start_time(text: &str) -> Result<u64, String> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    let ms = if text == "now" { now() } else { text.parse().map_err(|_| "must be milliseconds or `now`")? };
    if ms >= LEAST_START_MS { Ok(ms) } else { Err(format!("must be at least {LEAST_START_MS}")) }
}

/// Milliseconds of event time from row to row.
fn step_ms(devices: u64, rows_per_window: f64) -> f64 {
    WINDOW_MS as f64 / (devices as f64 * rows_per_window)
}

fn main() -> ExitCode {
    match Args::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("sensor-data: {message}");
            ExitCode::FAILURE
        }
    }
}

impl Args {
    fn run(&self) -> Result<(), String> {
        self.check()?;
        let start = self.prepare()?;
        self.check_times(start)?;
        let mut partitions = Partitions::open(&self.out, self.partitions)?;
        let counts = self.generate(Stream::new(self, start), &mut partitions)?;
        self.tell(&counts)
    }

    fn check(&self) -> Result<(), String> {
        if self.devices < self.partitions {
            let (d, p) = (self.devices, self.partitions);
            return Err(format!("{p} partitions need at least {p} devices, --devices is {d}"));
        }
        if self.malformed + self.out_of_range + self.late > 1.0 {
            return Err("--malformed, --out-of-range and --late together must not exceed 1".into());
        }
        Ok(())
    }

    /// What is computed with event times has to stay within them: nothing here may be less than 0, or more than a job takes.
    fn check_times(&self, start: u64) -> Result<(), String> {
        if !(LEAST_START_MS..=LAST_MS).contains(&start) {
            return Err(format!(
                "the rows would start at {start} ms; it must be from {LEAST_START_MS} to {LAST_MS}, say another --start-time"
            ));
        }
        if self.out_of_order_ms > start {
            return Err(format!("--out-of-order-ms must not be beyond the start, {start}"));
        }
        let end = start as f64 + self.rows as f64 * step_ms(self.devices, self.rows_per_window);
        if end > LAST_MS as f64 {
            return Err(format!(
                "event time would go up to {end:.0} ms, and must not go beyond {LAST_MS}; ask for fewer --rows, or for more \
                 --devices or --rows-per-window"
            ));
        }
        Ok(())
    }

    /// Makes the directory ready and says the event time to start at.
    fn prepare(&self) -> Result<u64, String> {
        fs::create_dir_all(&self.out).map_err(|e| format!("cannot create {}: {e}", self.out.display()))?;
        let found = partition_files(&self.out)?;
        if self.force {
            found
                .iter()
                .try_for_each(fs::remove_file)
                .map_err(|e| format!("cannot delete a partition: {e}"))?;
        } else if !found.is_empty() && !self.append {
            let (n, out) = (found.len(), self.out.display());
            return Err(format!(
                "{out} holds {n} partition files; add to them with --append, delete with --force"
            ));
        }
        let end = if self.append { last_timestamp(&found)? } else { None };
        Ok(self.start_time.or(end.map(|ms| ms.saturating_add(1))).unwrap_or(1_700_000_000_000))
    }

    fn generate(&self, mut stream: Stream, out: &mut Partitions) -> Result<Counts, String> {
        let (pace, mut progress) = (Pace::new(self.rate), Progress::new(self.rows, self.quiet));
        while stream.counts.rows < self.rows {
            let due = pace.due(stream.counts.rows).min(self.rows);
            while stream.counts.rows < due {
                let partition = stream.next_row();
                out.write(partition, &stream.line)?;
            }
            if self.rate.is_some() {
                out.flush()?;
            }
            progress.show(due);
        }
        out.flush()?;
        progress.clear();
        Ok(stream.counts)
    }

    fn tell(&self, counts: &Counts) -> Result<(), String> {
        let json = serde_json::to_string(counts).map_err(|e| e.to_string())?;
        if let Some(path) = &self.counts {
            fs::write(path, format!("{json}\n"))
                .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        }
        // A closed pipe is no reason to fail: the rows are written.
        let _ = writeln!(io::stdout(), "{json}");
        Ok(())
    }
}

/// What a job that reads the stream must count. A row is counted in `rows` and in one other at most.
#[derive(Default, Serialize)]
#[cfg_attr(test, derive(Debug, PartialEq))]
struct Counts {
    rows: u64,
    malformed: u64,
    out_of_range: u64,
    late: u64,
    bytes: u64,
}

// ---------------------------------------------------------------- rows

/// splitmix64: fast, seedable, good enough for noise.
struct Rng(u64);

fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    fn below(&mut self, n: u64) -> u64 {
        ((self.next() as u128 * n as u128) >> 64) as u64
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len() as u64) as usize]
    }

    /// Triangular noise in -65536..65536.
    fn noise(&mut self) -> i64 {
        let r = self.next();
        (r & 0xffff) as i64 + ((r >> 16) & 0xffff) as i64 - 65536
    }
}

/// What is special about a row.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Good,
    Malformed,
    OutOfRange,
    Late,
}

/// A device's way of behaving in one window; temperature in 1/100, vibration in 1/10000, pressure in 1/10.
struct Habit {
    temperature: i64,
    spread: i64,
    vibration: i64,
    pressure: i64,
}

impl Habit {
    fn of(seed: u64, device: u64, window: u64) -> Habit {
        let h = mix(seed ^ device.wrapping_mul(0x0123_4567));
        let g = mix(h ^ window);
        let mut habit = Habit {
            temperature: 4000 + (h % 3000) as i64,
            spread: 100 + ((h >> 16) % 400) as i64,
            vibration: 100 + ((h >> 32) % 300) as i64,
            pressure: 950 + ((h >> 44) % 150) as i64,
        };
        if g.is_multiple_of(10) {
            habit.fall_sick(g);
        }
        habit
    }

    fn fall_sick(&mut self, g: u64) {
        self.spread *= 4 + ((g >> 8) % 3) as i64;
        self.vibration += 300 + ((g >> 16) % 300) as i64;
        self.pressure -= 40 + ((g >> 24) % 60) as i64;
    }
}

/// The endless row maker: `line` is the row that `next_row` made, with its newline.
struct Stream {
    rng: Rng,
    seed: u64,
    start: u64,
    /// Milliseconds of event time from row to row.
    step: f64,
    rows: u64,
    devices: u64,
    partitions: u64,
    disorder: u64,
    /// Upper end, out of 2^32, of the draws that mean out of order.
    out_of_order: u64,
    /// Upper ends, out of 2^32, of the draws that mean malformed, out of range, late.
    limits: [u64; 3],
    line: Vec<u8>,
    counts: Counts,
}

impl Stream {
    fn new(args: &Args, start: u64) -> Stream {
        let limit = |share: f64| (share * (1u64 << 32) as f64).round() as u64;
        let (bad, hot) = (limit(args.malformed), limit(args.out_of_range));
        Stream {
            rng: Rng(args.seed),
            seed: args.seed,
            start,
            step: step_ms(args.devices, args.rows_per_window),
            rows: args.rows,
            devices: args.devices,
            partitions: args.partitions,
            disorder: args.out_of_order_ms,
            out_of_order: limit(args.out_of_order),
            limits: [bad, bad + hot, bad + hot + limit(args.late)],
            line: Vec::with_capacity(512),
            counts: Counts::default(),
        }
    }

    /// Makes the next row and returns its partition.
    fn next_row(&mut self) -> usize {
        let device = self.rng.below(self.devices);
        let draw = self.rng.next();
        let kind = self.kind(draw >> 32);
        let timestamp = self.timestamp(kind, draw & 0xffff_ffff);
        self.line.clear();
        self.reading(device, timestamp, kind);
        if kind == Kind::Malformed {
            spoil(&mut self.line, &mut self.rng);
        }
        self.line.push(b'\n');
        self.count(kind);
        (device % self.partitions) as usize
    }

    /// `draw` is out of 2^32, as in `timestamp`.
    fn kind(&self, draw: u64) -> Kind {
        let [bad, hot, late] = self.limits;
        match draw {
            d if d >= late => Kind::Good,
            d if d < bad => Kind::Malformed,
            d if d < hot => Kind::OutOfRange,
            _ if self.counts.rows > self.rows / 2 => Kind::Late,
            _ => Kind::Good,
        }
    }

    fn timestamp(&mut self, kind: Kind, draw: u64) -> u64 {
        if kind == Kind::Late {
            return self.start - LATE_MS - self.rng.below(600_000);
        }
        let newest = self.start + (self.counts.rows as f64 * self.step) as u64;
        // Drawn in any case: whatever the share, a row is the same but for its time.
        let age = self.rng.below(self.disorder + 1);
        if draw < self.out_of_order { newest - age } else { newest }
    }

    fn reading(&mut self, device: u64, timestamp: u64, kind: Kind) {
        let habit = Habit::of(self.seed, device, timestamp / WINDOW_MS);
        let rng = &mut self.rng;
        let mut temperature = (habit.temperature + rng.noise() * habit.spread / 32768).clamp(0, 10_000);
        if kind == Kind::OutOfRange {
            let far = 1 + rng.below(4000) as i64;
            temperature = if far & 1 == 0 { -far } else { 10_000 + far };
        }
        let vibration = (habit.vibration + rng.noise() * 80 / 65536).max(0);
        let pressure = habit.pressure + rng.noise() * 30 / 65536;
        let line = &mut self.line;
        line.extend_from_slice(b"{\"device_id\":\"dev-");
        push_padded::<5>(line, device);
        line.extend_from_slice(b"\",\"timestamp\":");
        push_padded::<1>(line, timestamp);
        line.extend_from_slice(b",\"temperature\":");
        push_decimal::<100, 2>(line, temperature);
        line.extend_from_slice(b",\"vibration\":");
        push_decimal::<10_000, 4>(line, vibration);
        line.extend_from_slice(b",\"pressure\":");
        push_decimal::<10, 1>(line, pressure);
        line.push(b'}');
    }

    fn count(&mut self, kind: Kind) {
        self.counts.rows += 1;
        self.counts.bytes += self.line.len() as u64;
        match kind {
            Kind::Good => {}
            Kind::Malformed => self.counts.malformed += 1,
            Kind::OutOfRange => self.counts.out_of_range += 1,
            Kind::Late => self.counts.late += 1,
        }
    }
}

/// At least `WIDTH` digits, with leading zeros where the number is shorter.
fn push_padded<const WIDTH: usize>(line: &mut Vec<u8>, mut value: u64) {
    let mut digits = [b'0'; 20];
    let mut at = 20;
    while value > 0 {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    line.extend_from_slice(&digits[at.min(20 - WIDTH)..]);
}

/// `value / SCALE`, with `PLACES` digits behind the point.
fn push_decimal<const SCALE: u64, const PLACES: usize>(line: &mut Vec<u8>, value: i64) {
    if value < 0 {
        line.push(b'-');
    }
    let size = value.unsigned_abs();
    push_padded::<1>(line, size / SCALE);
    line.push(b'.');
    push_padded::<PLACES>(line, size % SCALE);
}

// ---------------------------------------------------------------- malformed rows

const FIELDS: [&str; 5] = ["device_id", "timestamp", "temperature", "vibration", "pressure"];
const EMPTY: [&[u8]; 8] = [b"{}", b"[]", b"null", b"\"\"", b"0", b"true", b"[{}]", b"{\"\":\"\"}"];
const GARBAGE: [&[u8]; 6] = [
    b"### sensor gateway reset ###",
    b"<html><body>502 Bad Gateway</body></html>",
    b"device_id,timestamp,temperature,vibration,pressure",
    b"{'device_id': 'dev-00001', 'timestamp': 1700000000000}",
    b"\x00\x00\x00\x00\x00\x00\x00\x00",
    "gr\u{fc}\u{df}e vom z\u{e4}hler \u{2603}".as_bytes(),
];

/// Turns a good row into one that no reader of this schema takes: cut, changed or replaced.
fn spoil(line: &mut Vec<u8>, rng: &mut Rng) {
    match rng.below(10) {
        0..=2 => line.truncate(1 + rng.below(line.len() as u64 - 1) as usize),
        3 => wrong_type(line, rng),
        4 => lost_field(line, rng),
        5 => broken_utf8(line, rng),
        6 => replace(line, rng.pick(&EMPTY)),
        7 => replace(line, rng.pick(&GARBAGE)),
        8 => noise(line, rng),
        _ => overlong(line, rng),
    }
}

fn replace(line: &mut Vec<u8>, with: &[u8]) {
    line.clear();
    line.extend_from_slice(with);
}

/// The bytes of a field of the good row, from its name's quote to the comma or brace behind its value, and
/// where the value begins.
fn field(line: &[u8], name: &str) -> (usize, usize, usize) {
    let quoted = format!("\"{name}\":");
    let start = line.windows(quoted.len()).position(|w| w == quoted.as_bytes()).unwrap_or(1);
    let value = start + quoted.len();
    let end = value + line[value..].iter().position(|b| b",}".contains(b)).unwrap_or(0);
    (start, value, end)
}

fn wrong_type(line: &mut Vec<u8>, rng: &mut Rng) {
    let name = rng.pick(&FIELDS);
    let wrong: &[&[u8]] = match name {
        "device_id" => &[b"42", b"null", b"[\"dev-00001\"]", b"true"],
        "timestamp" => &[b"\"yesterday\"", b"1700000000000.5", b"null", b"true", b"\"1700000000000\""],
        _ => &[b"\"hot\"", b"null", b"[1.5]", b"{}", b"NaN", b"false", b"\"1.5\"", b"1.2.3", b"0x1F"],
    };
    let (_, value, end) = field(line, name);
    line.splice(value..end, rng.pick(wrong).iter().copied());
}

fn lost_field(line: &mut Vec<u8>, rng: &mut Rng) {
    let (start, _, end) = field(line, rng.pick(&FIELDS));
    // The comma goes with it: the one behind, or for the last field the one before.
    let (start, end) = if line[end] == b',' { (start, end + 1) } else { (start - 1, end) };
    line.drain(start..end);
}

/// Bytes that are no UTF-8, inside the device id, which every reader has to look at.
fn broken_utf8(line: &mut Vec<u8>, rng: &mut Rng) {
    let broken: &[&[u8]] = &[b"\xff", b"\xc3\x28", b"\xe2\x82", b"\xf0\x9f\x98", b"\x80", b"\xed\xa0\x80"];
    let (_, value, _) = field(line, "device_id");
    line.splice(value + 1..value + 4, rng.pick(broken).iter().copied());
}

/// Random bytes; the first can begin no JSON value, and none ends a line.
fn noise(line: &mut Vec<u8>, rng: &mut Rng) {
    line.clear();
    line.push(0x80 | rng.next() as u8);
    for _ in 0..rng.below(80) {
        let byte = rng.next() as u8;
        line.push(if byte == b'\n' || byte == b'\r' { b'?' } else { byte });
    }
}

/// A good row with more behind it, or nesting without end.
fn overlong(line: &mut Vec<u8>, rng: &mut Rng) {
    match rng.below(3) {
        0 => line.push(b'}'),
        1 => line.extend_from_within(..),
        _ => replace(line, &[b'['; 300]),
    }
}

// ---------------------------------------------------------------- files

/// The partition files, each behind a buffer.
struct Partitions(Vec<BufWriter<File>>);

impl Partitions {
    fn open(dir: &Path, count: u64) -> Result<Partitions, String> {
        let open = |p: u64| {
            let path = dir.join(format!("part-{p}.jsonl"));
            open_partition(&path).map_err(|e| format!("cannot write {}: {e}", path.display()))
        };
        (0..count).map(open).collect::<Result<_, _>>().map(Partitions)
    }

    fn write(&mut self, partition: usize, line: &[u8]) -> Result<(), String> {
        self.0[partition].write_all(line).map_err(|e| format!("cannot write to part-{partition}.jsonl: {e}"))
    }

    fn flush(&mut self) -> Result<(), String> {
        self.0.iter_mut().try_for_each(Write::flush).map_err(|e| format!("cannot write to a partition: {e}"))
    }
}

/// Opens for appending, and ends a last line that lacks its newline.
fn open_partition(path: &Path) -> io::Result<BufWriter<File>> {
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
    let whole = tail(&mut file, 1)?.last().is_none_or(|b| *b == b'\n');
    let mut writer = BufWriter::with_capacity(256 << 10, file);
    if !whole {
        writer.write_all(b"\n")?;
    }
    Ok(writer)
}

fn tail(file: &mut File, bytes: u64) -> io::Result<Vec<u8>> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut read = Vec::new();
    file.read_to_end(&mut read)?;
    Ok(read)
}

fn partition_files(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(dir).map_err(|e| format!("cannot list {}: {e}", dir.display()))?;
    let is_partition = |path: &PathBuf| {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("part-") && name.ends_with(".jsonl")
    };
    Ok(entries.filter_map(|e| Some(e.ok()?.path())).filter(is_partition).collect())
}

/// The newest event time near the ends of the files.
fn last_timestamp(files: &[PathBuf]) -> Result<Option<u64>, String> {
    let mut newest = None;
    for path in files {
        let read = File::open(path).and_then(|mut f| tail(&mut f, 16 << 10));
        let read = read.map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        newest = newest.max(timestamps(&read).max());
    }
    Ok(newest)
}

fn timestamps(rows: &[u8]) -> impl Iterator<Item = u64> + '_ {
    #[derive(serde::Deserialize)]
    struct Row {
        timestamp: u64,
    }
    rows.split(|b| *b == b'\n').filter_map(|l| Some(serde_json::from_slice::<Row>(l).ok()?.timestamp))
}

// ---------------------------------------------------------------- pace and progress

/// Says how many rows should be out by now.
struct Pace {
    rate: Option<f64>,
    start: Instant,
}

impl Pace {
    fn new(rate: Option<f64>) -> Pace {
        Pace { rate, start: Instant::now() }
    }

    /// With a rate, waits for the next beat. Without, a batch at a time, so that progress can be shown.
    fn due(&self, written: u64) -> u64 {
        let Some(rate) = self.rate else { return written + 65_536 };
        std::thread::sleep(PACE);
        rows_in(self.start.elapsed(), rate)
    }
}

/// All rows that are to be out after this time, so that a beat that comes late is made up for by the next.
fn rows_in(time: Duration, rate: f64) -> u64 {
    (time.as_secs_f64() * rate) as u64
}

/// A line that is written over, on a terminal only.
struct Progress {
    rows: u64,
    on: bool,
    start: Instant,
    shown: Instant,
}

impl Progress {
    fn new(rows: u64, quiet: bool) -> Progress {
        let now = Instant::now();
        Progress { rows, on: !quiet && io::stderr().is_terminal(), start: now, shown: now }
    }

    fn show(&mut self, written: u64) {
        if !self.on || self.shown.elapsed() < Duration::from_millis(100) {
            return;
        }
        self.shown = Instant::now();
        let percent = 100 * written / self.rows;
        let rate = written as f64 / self.start.elapsed().as_secs_f64();
        eprint!("\r\x1b[K{percent:3} %  {written} of {} rows  {rate:.0} rows/s", self.rows);
    }

    fn clear(&self) {
        if self.on {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "the types of the rest are what is tested")]
    struct Row<'a> {
        device_id: &'a str,
        timestamp: i64,
        temperature: f64,
        vibration: f64,
        pressure: f64,
    }

    fn stream(options: &[&str]) -> Stream {
        let args = Args::parse_from(["sensor-data", "--out", "x"].iter().chain(options));
        Stream::new(&args, 1_700_000_000_000)
    }

    fn rows(options: &[&str], count: usize) -> Vec<Vec<u8>> {
        let mut stream = stream(options);
        let mut next = || {
            stream.next_row();
            stream.line.clone()
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn a_good_row_is_valid() {
        for line in rows(&["--malformed", "0"], 10_000) {
            serde_json::from_slice::<Row<'_>>(&line).expect("a valid row");
        }
    }

    #[test]
    fn a_malformed_row_is_never_valid_nor_empty_nor_two_lines() {
        let lines = rows(&["--malformed", "1", "--out-of-range", "0", "--late", "0"], 200_000);
        for line in &lines {
            let (end, body) = line.split_last().expect("not empty");
            assert!(*end == b'\n' && !body.contains(&b'\n') && !body.contains(&b'\r'));
            assert!(!body.trim_ascii().is_empty());
            let text = String::from_utf8_lossy(body);
            assert!(serde_json::from_slice::<Row<'_>>(body).is_err(), "valid by accident: {text}");
        }
        assert!(lines.iter().collect::<HashSet<_>>().len() > 100_000, "malformed rows are varied");
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        assert_eq!(rows(&["--seed", "7"], 5_000), rows(&["--seed", "7"], 5_000));
        assert_ne!(rows(&["--seed", "7"], 5_000), rows(&["--seed", "8"], 5_000));
    }

    #[test]
    fn late_rows_come_in_the_second_half_only_and_an_hour_early() {
        let late = |l: &[u8]| timestamps(l).next().is_some_and(|t| t <= 1_700_000_000_000 - LATE_MS);
        let lines = rows(&["--late", "0.1", "--rows", "10000"], 10_000);
        assert!(!lines[..5000].iter().any(|l| late(l)));
        assert!(lines[5000..].iter().filter(|l| late(l)).count() > 300);
    }

    const ONLY_GOOD: [&str; 6] = ["--malformed", "0", "--out-of-range", "0", "--late", "0"];

    /// How much older than the newest row before it each row is; 0 for a row that is the newest.
    fn ages(options: &[&str], count: usize) -> Vec<u64> {
        let lines = rows(&[&ONLY_GOOD[..], options].concat(), count);
        let mut newest = 0;
        let mut age = |timestamp: u64| {
            newest = newest.max(timestamp);
            newest - timestamp
        };
        lines.iter().flat_map(|line| timestamps(line)).map(&mut age).collect()
    }

    #[test]
    fn disorder_stays_within_its_bound() {
        for (options, bound) in
            [(&[][..], 2000), (&["--out-of-order-ms", "50"], 50), (&["--rows-per-window", "3"], 2000)]
        {
            let most = ages(options, 50_000).into_iter().max().expect("rows");
            assert!((bound * 9 / 10..=bound).contains(&most), "{most} ms with {options:?}");
        }
    }

    #[test]
    fn as_many_rows_are_out_of_order_as_asked_for() {
        let older = |share| ages(&["--out-of-order", share], 100_000).iter().filter(|age| **age > 0).count();
        assert_eq!(older("0"), 0);
        assert!((9_500..10_500).contains(&older("0.1")), "{}", older("0.1"));
        assert!((48_500..51_500).contains(&older("0.5")), "{}", older("0.5"));
    }

    #[test]
    fn but_for_its_time_a_row_is_the_same_whatever_the_share() {
        let temperatures = |share| {
            let lines = rows(&[&ONLY_GOOD[..], &["--out-of-order", share]].concat(), 1_000);
            let row = |line: &Vec<u8>| serde_json::from_slice::<Row<'_>>(line).map(|row| row.temperature);
            lines.iter().map(|line| row(line).expect("a valid row")).collect::<Vec<_>>()
        };
        assert_eq!(temperatures("0"), temperatures("1"));
    }

    #[test]
    fn a_device_stays_in_one_partition() {
        let mut stream = stream(&["--partitions", "3", "--devices", "100", "--malformed", "0"]);
        let mut homes = HashMap::new();
        for _ in 0..10_000 {
            let partition = stream.next_row();
            let row: Row<'_> = serde_json::from_slice(&stream.line).expect("a valid row");
            assert_eq!(*homes.entry(row.device_id.to_owned()).or_insert(partition), partition);
        }
        assert_eq!(homes.len(), 100);
        assert_eq!(homes.into_values().collect::<HashSet<_>>(), HashSet::from([0, 1, 2]));
    }

    #[test]
    fn the_counts_are_those_of_the_rows_and_agree_with_the_shares() {
        let shares = ["--malformed", "0.1", "--out-of-range", "0.2", "--late", "0.04", "--rows", "100000"];
        let mut stream = stream(&shares);
        let mut found = Counts::default();
        for _ in 0..100_000 {
            stream.next_row();
            found.rows += 1;
            found.bytes += stream.line.len() as u64;
            match serde_json::from_slice::<Row<'_>>(&stream.line) {
                Err(_) => found.malformed += 1,
                Ok(row) if !(0.0..=100.0).contains(&row.temperature) => found.out_of_range += 1,
                Ok(row) if row.timestamp <= 1_700_000_000_000 - LATE_MS as i64 => found.late += 1,
                Ok(_) => {}
            }
        }
        assert_eq!(found, stream.counts);
        // Late rows are in the second half only.
        let wanted = [(found.malformed, 10_000), (found.out_of_range, 20_000), (found.late, 2_000)];
        assert!(wanted.iter().all(|(n, wanted)| n.abs_diff(*wanted) < wanted / 10), "{wanted:?}");
    }

    #[test]
    fn event_times_that_would_not_fit_are_refused() {
        let refusal = |options: &[&str], start| {
            let args = Args::parse_from(["sensor-data", "--out", "x"].iter().chain(options));
            args.check_times(start).err().unwrap_or_default()
        };
        let start = 1_700_000_000_000;
        assert_eq!(refusal(&[], start), "");
        assert_eq!(refusal(&["--out-of-order-ms", "1700000000000"], start), "");
        assert!(refusal(&["--out-of-order-ms", "1700000000001"], start).contains("--out-of-order-ms"));
        assert!(refusal(&["--out-of-order-ms", "18446744073709551615"], start).contains("--out-of-order-ms"));
        assert!(refusal(&["--rows-per-window", "1e-300"], start).contains("event time would go up to"));
        assert!(refusal(&["--rows", "18446744073709551615"], start).contains("event time would go up to"));
        // With --append the start is what the files end with, and they may end with anything.
        for start in [0, LEAST_START_MS - 1, LAST_MS + 1, u64::MAX] {
            assert!(refusal(&[], start).contains("--start-time"), "{start}");
        }
    }

    #[test]
    fn a_rate_is_kept_over_all_beats() {
        assert_eq!(rows_in(PACE, 10_000.0), 200);
        assert_eq!(rows_in(Duration::from_secs(3600), 10_000.0), 36_000_000);
        let beats = (1..=150).map(|beat| rows_in(PACE * beat, 0.7));
        let rows: Vec<u64> = beats.collect();
        assert!(rows.is_sorted() && rows.last() == Some(&2), "less than a row a beat adds up: {rows:?}");
        assert_eq!(rows_in(Duration::MAX, f64::MAX), u64::MAX);
        assert_eq!(Pace::new(None).due(7), 7 + 65_536, "without a rate nothing is waited for");
    }

    #[test]
    fn numbers_are_written_as_asked() {
        let written = |value| {
            let mut line = Vec::new();
            push_decimal::<10_000, 4>(&mut line, value);
            String::from_utf8(line).expect("digits")
        };
        assert_eq!([written(231), written(-5), written(1_230_001)], ["0.0231", "-0.0005", "123.0001"]);
    }
}
