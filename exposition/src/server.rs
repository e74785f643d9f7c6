//! A text over HTTP: one path, one thread, one request at a time. There is no signature: whoever reaches the address may
//! read.

use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// How long a request may take to arrive.
const REQUEST: Duration = Duration::from_secs(2);
/// How long the client may take to read a part of the answer.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest request.
const REQUEST_BYTES_MAX: usize = 16_384;

/// Starts to serve what `text` returns, at `/metrics`; the thread lives as long as the process.
///
/// # Errors
/// If there is no thread.
pub fn serve(listener: TcpListener, text: impl Fn() -> String + Send + 'static) -> Result<()> {
    std::thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            match stream {
                // A client that disconnects or sends an invalid request affects no other.
                Ok(stream) => drop(answer(stream, &text)),
                // Too many files are open, say: that takes time to end.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    })?;
    Ok(())
}

fn answer(mut stream: TcpStream, text: &impl Fn() -> String) -> Result<()> {
    let until = Instant::now() + REQUEST;
    stream.set_write_timeout(Some(ANSWER))?;
    let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|window| window == b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        let left = until.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut buffer)? {
            0 => break,
            count => request.extend_from_slice(&buffer[..count]),
        }
    }
    let is_found =
        [&b"GET /metrics "[..], b"GET /metrics?", b"GET / "].iter().any(|begin| request.starts_with(begin));
    let (status, body) =
        if is_found { ("200 OK", text()) } else { ("404 Not Found", "try /metrics\n".to_owned()) };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_at_its_path_and_a_slow_client_does_not_stay() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        serve(listener, || "a 1\n".to_owned()).unwrap();
        let slow = TcpStream::connect(address).unwrap();
        for (request, expected) in [("GET /metrics HTTP/1.1", "200 OK"), ("GET /x HTTP/1.1", "404 Not Found")]
        {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "{request}\r\nHost: x\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}\r\n")), "{answer}");
            assert_eq!(answer.ends_with("\r\n\r\na 1\n"), expected == "200 OK");
        }
        drop(slow);
    }
}
