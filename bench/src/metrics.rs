//! The metrics of a job, asked over HTTP while it runs.

use crate::Result;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// An address that nobody listened at a moment ago.
pub fn free_address() -> Result<SocketAddr> {
    let found = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    found.map_err(|e| format!("no free port: {e}"))
}

/// What a job with `--metrics ADDRESS` tells, with the head of the response.
pub fn of(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The sum of a metric over all operators and workers.
pub fn sum(text: &str, metric: &str) -> f64 {
    let of_metric = |line: &&str| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with('{'));
    let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
    text.lines().filter(of_metric).filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_workers_and_is_not_one_with_a_longer_name() {
        let text = "# HELP keys of\nkeys{worker=\"0\"} 3\nkeys{worker=\"1\"} 4\nkeys_lost{worker=\"0\"} 9\n";
        assert_eq!((sum(text, "keys"), sum(text, "other")), (7.0, 0.0));
    }
}
