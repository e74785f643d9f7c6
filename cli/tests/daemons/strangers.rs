//! Connections of strangers: many, silent, slow, cut off. None of them keeps anybody from working.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;

/// More than a process may usually have open.
const MANY: usize = 2_000;

/// This process needs a descriptor for each.
fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to a value that lives as long as the calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
}

#[test]
fn thousands_of_idle_connections_keep_nobody_from_working() {
    raise_open_files();
    let mut cluster = Cluster::new();
    cluster.start_jobmanager_with_files(600);
    cluster.until("the jobmanager answers", |cluster| cluster.run("list").is_ok());
    let idle: Vec<TcpStream> =
        (0..MANY).map(|_| TcpStream::connect(("127.0.0.1", cluster.jobmanager)).unwrap()).collect();
    let asked = Instant::now();
    cluster.run("list").unwrap();
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    // A taskmanager that comes while they are there is served, and stays.
    cluster.start_taskmanager("tm", "");
    cluster.wait_for_taskmanagers(1);
    let more: Vec<TcpStream> =
        (0..MANY).map(|_| TcpStream::connect(("127.0.0.1", cluster.jobmanager)).unwrap()).collect();
    cluster.wait_for_taskmanagers(1);
    assert!(!cluster.log(1).contains("has ended"), "{}", cluster.log(1));
    assert!(!cluster.log(0).contains("no connection can be accepted"), "{}", cluster.log(0));
    drop((idle, more));
}

/// Sends a text byte by byte until the jobmanager closes the connection; returns how long that took.
fn slowly(port: u16, text: &str) -> Duration {
    let began = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let closed = thread::spawn(move || {
        // An answer may come before the end.
        while reader.read(&mut [0; 1024]).is_ok_and(|count| count > 0) {}
        began.elapsed()
    });
    for byte in text.bytes().cycle() {
        if closed.is_finished() || stream.write_all(&[byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    closed.join().unwrap()
}

#[test]
fn a_slow_head_a_slow_body_and_a_silent_connection_end_in_time() {
    let mut cluster = Cluster::new();
    cluster.set("TIDEGATE_TIMEOUTS_AUTHENTICATION", "500ms");
    cluster.start_jobmanager("");
    cluster.until("the jobmanager answers", |cluster| cluster.run("list").is_ok());
    let port = cluster.jobmanager;
    let head = "GET /v1/overview HTTP/1.1\r\nHost: x\r\nX-Some-Header: ".to_owned();
    let body = "POST /v1/executables/x/run HTTP/1.1\r\nHost: x\r\nAuthorization: Tidegate challenge=a,counter=1,nonce=n,mac=00\
                \r\nContent-Length: 1000000\r\n\r\n{"
        .to_owned();
    let many_requests = "GET /v1/challenge HTTP/1.1\r\nHost: x\r\n\r\n".to_owned();
    for text in [String::from("G"), head, body, many_requests] {
        let took = slowly(port, &text);
        assert!(took < Duration::from_secs(5), "{took:?}: {text}");
    }
    let silent = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!((&silent).read(&mut [0]).unwrap(), 0);
    cluster.run("list").unwrap();
}

#[test]
fn who_does_not_sign_is_answered_before_the_body_has_come() {
    let mut cluster = Cluster::new();
    cluster.start_jobmanager("");
    cluster.until("the jobmanager answers", |cluster| cluster.run("list").is_ok());
    let mut stream = TcpStream::connect(("127.0.0.1", cluster.jobmanager)).unwrap();
    stream
        .write_all(b"POST /v1/executables/x/run HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
}

#[test]
fn a_wrong_secret_is_said_although_the_executable_is_long() {
    let mut cluster = Cluster::new();
    cluster.start_jobmanager("");
    cluster.until("the jobmanager answers", |cluster| cluster.run("list").is_ok());
    cluster.refuses_another_secret(256 << 20);
    assert!(fs::read_dir(cluster.path("store/executables")).unwrap().next().is_none());
}
