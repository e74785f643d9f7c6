//! Turns good rows into malformed ones, in every way that a gateway has been seen to.

use crate::rng::Rng;

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
pub(crate) fn spoil(line: &mut Vec<u8>, rng: &mut Rng) {
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
    // The comma is removed, too: the one behind the field, or for the last field the one before it.
    let (start, end) = if line[end] == b',' { (start, end + 1) } else { (start - 1, end) };
    line.drain(start..end);
}

/// Bytes that are not UTF-8, inside the device id, which every reader has to look at.
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
