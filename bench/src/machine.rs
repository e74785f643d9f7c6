//! The machine that a figure was measured on, in one line.

use std::fs;

/// "AMD EPYC 7B13, 2 cores, 24 GB, Linux 6.1.0".
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = field("/proc/meminfo", "MemTotal").and_then(|v| v.split(' ').next()?.parse::<f64>().ok());
    let mut parts =
        vec![field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into())];
    parts.push(format!("{cores} cores"));
    parts.extend(memory.map(|kb| format!("{:.0} GB", kb / 1e6)));
    parts.push(format!("{} {}", os(), read("/proc/sys/kernel/osrelease").unwrap_or_default()));
    parts.join(", ").trim_end().into()
}

fn os() -> &'static str {
    if cfg!(target_os = "linux") { "Linux" } else { std::env::consts::OS }
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_string())
}

/// The value of the first line "name : value".
fn field(path: &str, name: &str) -> Option<String> {
    let text = read(path)?;
    let (_, value) = text.lines().find(|l| l.starts_with(name))?.split_once(':')?;
    Some(value.trim().into())
}
