//! A text over HTTP, with TLS if there is a certificate: one path, a thread a request. There is no signature: whoever reaches
//! the address may read.
//!
//! Whoever opens connections and says nothing, or says it slowly, keeps nobody else from reading: each has a few seconds, and
//! if there are too many, the oldest makes room.

use std::io::{Read, Result, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_transport::{Acceptor, Door, Limits, Stream};

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// How long a request may take to arrive.
const REQUEST: Duration = Duration::from_secs(2);
/// How long the client may take to read the answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The longest request.
const REQUEST_BYTES_MAX: usize = 16_384;
/// How many connections there may be at a time.
const LIMITS: Limits = Limits { total: 64, per_address: 32 };
/// What a client without TLS is answered.
const TLS_IS_WANTED: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
    This port speaks TLS: write https:// instead of http://\n";

/// Starts to serve what `text` returns, at `/metrics`; the thread lives as long as the process.
///
/// # Errors
/// If there is no thread.
pub fn serve(
    listener: TcpListener,
    tls: Option<Acceptor>,
    text: impl Fn() -> String + Send + 'static,
) -> Result<()> {
    let door =
        Door { name: "metrics client", limits: LIMITS, time: REQUEST, tls, tls_is_wanted: TLS_IS_WANTED };
    // The text is made for one client at a time.
    let text = Arc::new(Mutex::new(text));
    std::thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        door.serve(&listener, &AtomicBool::new(false), move |stream| {
            // A client that disconnects or sends an invalid request affects no other.
            if let Ok(stream) = stream {
                drop(answer(stream, &*text));
            }
        });
    })?;
    Ok(())
}

fn answer(mut stream: Stream, text: &Mutex<impl Fn() -> String>) -> Result<()> {
    let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|window| window == b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        match stream.read(&mut buffer)? {
            0 => break,
            count => request.extend_from_slice(&buffer[..count]),
        }
    }
    let is_found =
        [&b"GET /metrics "[..], b"GET /metrics?", b"GET / "].iter().any(|begin| request.starts_with(begin));
    let (status, body) = if is_found {
        ("200 OK", text.lock().unwrap_or_else(PoisonError::into_inner)())
    } else {
        ("404 Not Found", "try /metrics\n".to_owned())
    };
    stream.set_deadline(Some(Instant::now() + ANSWER))?;
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes())?;
    stream.shutdown(Shutdown::Write)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use tidegate_test_certificates::Authority;
    use tidegate_transport::{Clients, Connector, Tls};

    use super::*;

    fn start(tls: Option<Acceptor>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        serve(listener, tls, || "a 1\n".to_owned()).unwrap();
        address
    }

    fn ask(mut stream: impl Read + Write, request: &str) -> String {
        // At once: a server that refuses the first bytes may have closed the connection before others are written.
        stream.write_all(format!("{request}\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn the_text_is_at_its_path() {
        let address = start(None);
        for (request, expected) in [("GET /metrics HTTP/1.1", "200 OK"), ("GET /x HTTP/1.1", "404 Not Found")]
        {
            let answer = ask(TcpStream::connect(&address).unwrap(), request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}\r\n")), "{answer}");
            assert_eq!(answer.ends_with("\r\n\r\na 1\n"), expected == "200 OK");
        }
    }

    #[test]
    fn idle_and_slow_clients_delay_nobody() {
        let address = start(None);
        let idle: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(&address).unwrap()).collect();
        let slow = TcpStream::connect(&address).unwrap();
        (&slow).write_all(b"GET").unwrap();
        let asked = Instant::now();
        let answer = ask(TcpStream::connect(&address).unwrap(), "GET /metrics HTTP/1.1");
        assert!(answer.ends_with("a 1\n") && asked.elapsed() < REQUEST, "{:?}: {answer}", asked.elapsed());
        assert_eq!((&slow).read(&mut [0]).unwrap_or(0), 0, "it was closed at its deadline");
        drop(idle);
    }

    #[test]
    fn with_a_certificate_it_speaks_tls_and_says_so_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new(directory.path());
        let tls = Tls::load(&authority.issue("host", &["127.0.0.1"])).unwrap();
        let address = start(Some(tls.acceptor(Clients::Anybody).unwrap()));
        let connector = Connector::believing(&authority.file(), None).unwrap();
        let tcp = TcpStream::connect(&address).unwrap();
        let stream = connector.connect(tcp, &address, Instant::now() + ANSWER).unwrap();
        assert!(ask(stream, "GET /metrics HTTP/1.1").ends_with("a 1\n"));
        let answer = ask(TcpStream::connect(&address).unwrap(), "GET /metrics HTTP/1.1");
        assert!(answer.ends_with("write https:// instead of http://\n"), "{answer}");
    }
}
