//! Serves the metrics over HTTP: one path, one thread, one request at a time.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::Metrics;
use crate::metrics::exposition::CONTENT_TYPE;
use tidegate_protocol::{ErrorContext, Result};

/// Starts serving at `HOST:PORT`; the thread lives as long as the process.
pub(crate) fn serve(address: &str, job: &str, metrics: Arc<Metrics>) -> Result<()> {
    let listener = TcpListener::bind(address).context(|| {
        format!("cannot serve metrics at {address} (--metrics takes an address of this machine, such as 127.0.0.1:9399)")
    })?;
    let job = job.to_owned();
    std::thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that disconnects or sends an invalid request affects no other.
            drop(answer(stream, &job, &metrics));
        }
    })?;
    Ok(())
}

fn answer(mut stream: TcpStream, job: &str, metrics: &Metrics) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|w| w == b"\r\n\r\n") && request.len() < 16_384 {
        match stream.read(&mut buffer)? {
            0 => break,
            n => request.extend_from_slice(&buffer[..n]),
        }
    }
    let found = request.starts_with(b"GET /metrics ") || request.starts_with(b"GET / ");
    let (status, body) =
        if found { ("200 OK", metrics.render(job)) } else { ("404 Not Found", "try /metrics\n".to_owned()) };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {}\r\nConnection: \
         close\r\n\r\n{body}",
        body.len()
    )
}
