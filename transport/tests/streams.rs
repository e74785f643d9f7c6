//! Streams with TLS over real sockets: data in both directions, ends, certificates of all kinds, and strangers.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_protocol::Result;
use tidegate_test_certificates::Authority;
use tidegate_transport::{Clients, Connector, Door, Limits, Stream, Tls, TlsFiles};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn authority() -> (TempDir, Authority) {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    (directory, authority)
}

fn limits(total: usize) -> Limits {
    Limits { total, per_address: total }
}

/// A server that passes its streams on.
fn serve(
    files: Option<&TlsFiles>,
    clients: Clients,
    limits: Limits,
    time: Duration,
) -> (String, Receiver<Result<Stream>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tls = files.map(|files| Tls::load(files).unwrap().acceptor(clients).unwrap());
    let door = Door { name: "guest", limits, time, tls, tls_is_wanted: b"TLS only" };
    let (sender, accepted) = channel();
    thread::spawn(move || {
        door.serve(&listener, &AtomicBool::new(false), move |stream| drop(sender.send(stream)))
    });
    (address, accepted)
}

/// The two ends of a connection.
fn pair(files: &TlsFiles) -> (Stream, Stream) {
    let (address, accepted) = serve(Some(files), Clients::MustShow, limits(10), Duration::from_secs(20));
    let tcp = TcpStream::connect(&address).unwrap();
    let here = Tls::load(files).unwrap().connector().connect(tcp, &address, soon()).unwrap();
    let there = accepted.recv().unwrap().unwrap();
    for stream in [&here, &there] {
        stream.set_deadline(None).unwrap();
    }
    (here, there)
}

#[test]
fn megabytes_cross_in_both_directions_at_the_same_time_and_end() {
    let (_directory, authority) = authority();
    let (here, there) = pair(&authority.issue("host", &["127.0.0.1"]));
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|i| (i / 3 % 251) as u8).collect();
    let mut threads = Vec::new();
    for stream in [here, there] {
        let (mut writer, mut reader) = (stream.clone(), stream);
        let sent = bytes.clone();
        threads.push(thread::spawn(move || {
            sent.chunks(777_777).for_each(|part| writer.write_all(part).unwrap());
            writer.shutdown(Shutdown::Write).unwrap();
            Vec::new()
        }));
        threads.push(thread::spawn(move || {
            let mut received = Vec::new();
            reader.read_to_end(&mut received).unwrap();
            received
        }));
    }
    let received: Vec<Vec<u8>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(received[1] == bytes && received[3] == bytes);
}

#[test]
fn a_reader_that_waits_holds_up_no_writer_and_a_writer_that_waits_no_reader() {
    let (_directory, authority) = authority();
    let (here, mut there) = pair(&authority.issue("host", &["127.0.0.1"]));
    let (mut reader, mut writer) = (here.clone(), here.clone());
    let reading = thread::spawn(move || {
        let mut text = [0; 5];
        reader.read_exact(&mut text).unwrap();
        text
    });
    // Nobody reads this: it waits for room, until the connection is ended.
    let writing = thread::spawn(move || while writer.write_all(&[7; 100_000]).is_ok() {});
    there.write_all(b"hello").unwrap();
    assert_eq!(&reading.join().unwrap(), b"hello");
    here.shutdown(Shutdown::Both).unwrap();
    writing.join().unwrap();
    let error = std::io::copy(&mut there, &mut std::io::sink()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "an end that nobody has announced: {error}");
}

/// Why two ends do not come together: what the one that connects is told, and the one that accepts.
fn refusals(
    connector: &Connector,
    server: &TlsFiles,
    clients: Clients,
    address: Option<&str>,
) -> (String, String) {
    let (real, accepted) = serve(Some(server), clients, limits(10), Duration::from_secs(20));
    let tcp = TcpStream::connect(&real).unwrap();
    let connected = connector.connect(tcp, address.unwrap_or(&real), soon());
    // That its certificate is refused is told to the one that has connected after its handshake.
    let told = connected.map_err(|e| e.to_string()).and_then(|mut stream| {
        stream.write_all(b"x").and_then(|()| stream.read(&mut [0])).map_err(|e| e.to_string())
    });
    (told.unwrap_err(), accepted.recv().unwrap().map(drop).unwrap_err().to_string())
}

#[test]
fn who_has_no_certificate_of_the_authority_is_refused_with_the_reason() {
    let ((_here, authority), (_there, other)) = (authority(), authority());
    let host = authority.issue("host", &["127.0.0.1", "localhost"]);
    let stranger = Tls::load(&other.issue("stranger", &["127.0.0.1"])).unwrap();
    let only_believing = Connector::believing(&authority.file(), None).unwrap();
    let its_own = Connector::believing(&other.file(), None).unwrap();

    let (told, _) = refusals(stranger.connector(), &host, Clients::MustShow, None);
    assert!(told.contains("no authority in tls.ca has issued it"), "{told}");
    let (told, accepted) = refusals(&its_own, &host, Clients::Anybody, None);
    assert!(told.starts_with("its certificate is refused: no authority in tls.ca has issued it"), "{told}");
    assert!(accepted.contains("no authority in its tls.ca has issued it"), "{accepted}");
    let (told, accepted) = refusals(&only_believing, &host, Clients::MustShow, None);
    assert!(told.contains("set tls.certificate and tls.key here"), "{told}");
    assert!(accepted.contains("it has no certificate: set tls.certificate"), "{accepted}");
    let (told, _) = refusals(&only_believing, &host, Clients::Anybody, Some("10.1.2.3:5"));
    assert!(
        told.contains("it is for") && told.contains("127.0.0.1") && told.contains("and not for 10.1.2.3"),
        "{told}"
    );
    let other_name = Connector::believing(&authority.file(), Some("tidegate".to_owned())).unwrap();
    let (told, _) = refusals(&other_name, &host, Clients::Anybody, None);
    assert!(told.contains("and not for tidegate"), "{told}");
    let localhost = Connector::believing(&authority.file(), Some("localhost".to_owned())).unwrap();
    let (real, _accepted) = serve(Some(&host), Clients::MayShow, limits(10), Duration::from_secs(20));
    localhost.connect(TcpStream::connect(&real).unwrap(), "10.1.2.3:5", soon()).unwrap();
}

#[test]
fn who_does_not_speak_tls_is_told_so_and_the_reverse() {
    let (_directory, authority) = authority();
    let host = authority.issue("host", &["127.0.0.1"]);
    let (address, accepted) = serve(Some(&host), Clients::Anybody, limits(10), Duration::from_secs(20));
    let mut plain = TcpStream::connect(&address).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = [0; 8];
    plain.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"TLS only");
    let error = accepted.recv().unwrap().map(drop).unwrap_err().to_string();
    assert!(error.contains("it does not speak TLS: set tls.certificate"), "{error}");

    let (address, accepted) = serve(None, Clients::Anybody, limits(10), Duration::from_secs(20));
    let answering = thread::spawn(move || {
        accepted.recv().unwrap().unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    });
    let connector = Connector::believing(&authority.file(), None).unwrap();
    let error =
        connector.connect(TcpStream::connect(&address).unwrap(), &address, soon()).unwrap_err().to_string();
    answering.join().unwrap().unwrap();
    assert!(error.starts_with("it does not speak TLS") && error.contains("leave tls.ca out here"), "{error}");
}

#[test]
fn files_that_cannot_be_used_are_refused_with_what_to_do() {
    let ((_here, authority), (_there, other)) = (authority(), authority());
    let good = authority.issue("good", &["127.0.0.1"]);
    let another = authority.issue("another", &["127.0.0.1"]);
    let readable = authority.issue("readable", &["127.0.0.1"]);
    fs::set_permissions(&readable.key, fs::Permissions::from_mode(0o644)).unwrap();
    let missing = good.ca.with_file_name("missing.pem");
    for (files, expected) in [
        (
            TlsFiles { certificate: missing.clone(), ..good.clone() },
            "that tls.certificate names cannot be read",
        ),
        (TlsFiles { key: missing.clone(), ..good.clone() }, "that tls.key names cannot be read"),
        (TlsFiles { ca: missing, ..good.clone() }, "that tls.ca names cannot be read"),
        (TlsFiles { key: good.certificate.clone(), ..good.clone() }, "run: chmod 600"),
        (TlsFiles { certificate: good.key.clone(), ..good.clone() }, "there is no certificate in it"),
        (TlsFiles { key: another.key, ..good.clone() }, "are both of the same host?"),
        (TlsFiles { ca: other.file(), ..good.clone() }, "no authority in tls.ca has issued it"),
        (authority.issue_until("old", &["127.0.0.1"], 2001), "it has expired: renew it (docs/cluster.md"),
        (readable, "everybody on this host can read it (its mode is 0644)"),
    ] {
        let error = Tls::load(&files).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    Tls::load(&good).unwrap();
}

#[test]
fn a_slow_stranger_is_ended_at_its_deadline_with_tls_and_without() {
    let (_directory, authority) = authority();
    let host = authority.issue("host", &["127.0.0.1"]);
    for files in [Some(&host), None] {
        let (address, accepted) = serve(files, Clients::Anybody, limits(10), Duration::from_millis(300));
        let began = Instant::now();
        let mut slow = TcpStream::connect(&address).unwrap();
        // A byte now and then, the first of a TLS handshake: no single read takes long.
        let sending = thread::spawn(move || {
            while slow.write_all(&[22]).is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        let error = match accepted.recv().unwrap() {
            Ok(mut stream) => std::io::copy(&mut stream, &mut std::io::sink()).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(began.elapsed() >= Duration::from_millis(300) || files.is_some(), "{error}");
        assert!(began.elapsed() < Duration::from_secs(5), "{error}");
        sending.join().unwrap();
    }
}

#[test]
fn idle_strangers_keep_nobody_out() {
    let (_directory, authority) = authority();
    let host = authority.issue("host", &["127.0.0.1"]);
    let (address, accepted) = serve(Some(&host), Clients::Anybody, limits(5), Duration::from_secs(60));
    let idle: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let connector = Connector::believing(&authority.file(), None).unwrap();
    let mut stream = connector.connect(TcpStream::connect(&address).unwrap(), &address, soon()).unwrap();
    stream.write_all(b"x").unwrap();
    let mut served = accepted.iter().find_map(Result::ok).unwrap();
    served.read_exact(&mut [0]).unwrap();
    // The oldest ones were closed.
    assert_eq!((&idle[0]).read(&mut [0]).unwrap_or(0), 0);
}
