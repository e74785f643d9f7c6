//! Makes rows, one after the other.

use serde::Serialize;

use crate::habit::Habit;
use crate::rng::Rng;
use crate::spoil::spoil;
use crate::{Args, LATE_MS, WINDOW_MS, step_ms};

/// What a job that reads the stream must count. A row is counted in `rows` and in one other at most.
#[derive(Default, Serialize)]
#[cfg_attr(test, derive(Debug, PartialEq))]
pub(crate) struct Counts {
    pub(crate) rows: u64,
    pub(crate) malformed: u64,
    pub(crate) out_of_range: u64,
    pub(crate) late: u64,
    pub(crate) bytes: u64,
}

/// What is special about a row.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Good,
    Malformed,
    OutOfRange,
    Late,
}

/// The endless row maker: `line` is the row that `next_row` made, with its newline.
pub(crate) struct Stream {
    pub(crate) rng: Rng,
    pub(crate) seed: u64,
    pub(crate) start: u64,
    /// Milliseconds of event time from row to row.
    pub(crate) step: f64,
    pub(crate) rows: u64,
    pub(crate) devices: u64,
    pub(crate) partitions: u64,
    pub(crate) disorder: u64,
    /// Upper end, out of 2^32, of the draws that mean out of order.
    pub(crate) out_of_order: u64,
    /// Upper ends, out of 2^32, of the draws that mean malformed, out of range, late.
    pub(crate) limits: [u64; 3],
    pub(crate) line: Vec<u8>,
    pub(crate) counts: Counts,
}

impl Stream {
    pub(crate) fn new(args: &Args, start: u64) -> Stream {
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
    pub(crate) fn next_row(&mut self) -> usize {
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
    pub(crate) fn kind(&self, draw: u64) -> Kind {
        let [bad, hot, late] = self.limits;
        match draw {
            d if d >= late => Kind::Good,
            d if d < bad => Kind::Malformed,
            d if d < hot => Kind::OutOfRange,
            _ if self.counts.rows > self.rows / 2 => Kind::Late,
            _ => Kind::Good,
        }
    }

    pub(crate) fn timestamp(&mut self, kind: Kind, draw: u64) -> u64 {
        if kind == Kind::Late {
            return self.start - LATE_MS - self.rng.below(600_000);
        }
        let newest = self.start + (self.counts.rows as f64 * self.step) as u64;
        // Drawn in any case: whatever the share, a row is the same but for its time.
        let age = self.rng.below(self.disorder + 1);
        if draw < self.out_of_order { newest - age } else { newest }
    }

    pub(crate) fn reading(&mut self, device: u64, timestamp: u64, kind: Kind) {
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

    pub(crate) fn count(&mut self, kind: Kind) {
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
pub(crate) fn push_decimal<const SCALE: u64, const PLACES: usize>(line: &mut Vec<u8>, value: i64) {
    if value < 0 {
        line.push(b'-');
    }
    let size = value.unsigned_abs();
    push_padded::<1>(line, size / SCALE);
    line.push(b'.');
    push_padded::<PLACES>(line, size % SCALE);
}
