//! A jobmanager that does what the test says.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tidegate_access::{Challenges, Secret};
use tidegate_protocol::taskmanager::{FromTaskManager, Registration, ToTaskManager};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{
    Callback, ErrorResponse, Request as Upgrade, Response,
};
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::{LEASE, PATIENCE};

/// A jobmanager; it ends when it is dropped, with its connections.
pub(crate) struct Jobmanager {
    pub(crate) address: SocketAddr,
    received: Receiver<Received>,
    commands: watch::Sender<Option<mpsc::UnboundedSender<ToTaskManager>>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// How a jobmanager behaves.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Manner {
    Honest,
    /// It does not prove that it has the secret.
    Lies,
    /// It sends no sign of life.
    Silent,
}

pub(crate) enum Received {
    /// A taskmanager wants to connect.
    Upgrade,
    Message(FromTaskManager),
}

#[derive(Clone)]
struct Server {
    challenges: Arc<Mutex<Challenges>>,
    manner: Manner,
    started: Instant,
    received: Sender<Received>,
    commands: watch::Sender<Option<mpsc::UnboundedSender<ToTaskManager>>>,
}

impl Jobmanager {
    /// Starts one at an address of its own.
    pub(crate) fn new(secret: &Secret, manner: Manner) -> Self {
        // No outgoing connection of another test takes a port of this address while the jobmanager is away.
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let (pid, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let host = Ipv4Addr::new(127, 1 + (pid >> 8) as u8 % 254, pid as u8, number);
        Self::start((host, 0).into(), secret, manner)
    }

    /// Starts one at this address.
    pub(crate) fn start(address: SocketAddr, secret: &Secret, manner: Manner) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let ((sender, received), (stop, stopped)) = (channel(), tokio::sync::oneshot::channel());
        let commands = watch::channel(None).0;
        let challenges = Arc::new(Mutex::new(Challenges::new(secret.clone(), Secret::generate())));
        let started = Instant::now();
        let server = Server { challenges, manner, started, received: sender, commands: commands.clone() };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                let accept = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        tokio::spawn(server.clone().serve(stream));
                    }
                };
                let accept = std::pin::pin!(accept);
                futures_util::future::select(accept, stopped).await;
            });
        });
        Self { address, received, commands, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn send(&self, message: ToTaskManager) {
        self.commands.borrow().as_ref().expect("a taskmanager is connected").send(message).unwrap();
    }

    /// Waits for a message of this kind; skips others.
    pub(crate) fn wait<T>(&self, mut wanted: impl FnMut(FromTaskManager) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        let mut skipped = Vec::new();
        loop {
            let received = self.received.recv_timeout(until.saturating_duration_since(Instant::now()));
            let Ok(received) = received else { panic!("no such message; there were {skipped:?}") };
            let Received::Message(message) = received else { continue };
            if !matches!(message, FromTaskManager::Pong) {
                skipped.push(format!("{message:?}").chars().take(300).collect::<String>());
            }
            if let Some(found) = wanted(message) {
                return found;
            }
        }
    }

    pub(crate) fn next(&self) -> Received {
        self.received.recv_timeout(PATIENCE).unwrap()
    }

    pub(crate) fn registration(&self) -> Registration {
        self.wait(|message| match message {
            FromTaskManager::Register(registration) => Some(*registration),
            _ => None,
        })
    }
}

impl Drop for Jobmanager {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// What an upgrade request is answered.
struct Verify<'a>(&'a Server);

impl Callback for Verify<'_> {
    fn on_request(self, request: &Upgrade, mut response: Response) -> Result<Response, ErrorResponse> {
        let Server { challenges, manner, started, received, .. } = self.0;
        let _ = received.send(Received::Upgrade);
        let header = request.headers().get("Authorization").map_or("", |value| value.to_str().unwrap());
        let target = request.uri().path_and_query().unwrap().as_str();
        assert_eq!(target, "/v1/taskmanagers/link");
        let mut challenges = challenges.lock().unwrap();
        match challenges.verify(started.elapsed(), header, "GET", target) {
            Ok(accepted) => {
                let proof =
                    if *manner == Manner::Lies { "00".repeat(32) } else { accepted.proof.to_string() };
                response.headers_mut().insert("Tidegate-Proof", HeaderValue::from_str(&proof).unwrap());
                Ok(response)
            }
            Err(refused) => {
                let mut response = ErrorResponse::new(Some(refused.to_string()));
                *response.status_mut() = 401.try_into().unwrap();
                Err(response)
            }
        }
    }
}

impl Server {
    async fn serve(self, mut stream: TcpStream) {
        let mut head = [0; 17];
        while stream.peek(&mut head).await.unwrap_or(head.len()) < head.len() {}
        if &head == b"GET /v1/challenge" {
            let _ = stream.read(&mut [0; 4096]).await;
            let challenge = self.challenges.lock().unwrap().challenge(self.started.elapsed());
            let body = format!("{{\"challenge\":\"{challenge}\"}}");
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(text.as_bytes()).await;
            return;
        }
        let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, Verify(&self)).await else { return };
        let (mut sink, mut stream) = socket.split();
        let (commands, mut queued) = mpsc::unbounded_channel();
        self.commands.send_replace(Some(commands));
        let write = async {
            loop {
                let silence = if self.manner == Manner::Silent { PATIENCE } else { LEASE / 4 };
                let next = tokio::time::timeout(silence, queued.recv()).await;
                let Some(message) = next.unwrap_or(Some(ToTaskManager::Ping)) else { return };
                if sink.send(Message::text(serde_json::to_string(&message).unwrap())).await.is_err() {
                    return;
                }
            }
        };
        let read = async {
            while let Some(Ok(message)) = stream.next().await {
                let Message::Text(text) = message else { continue };
                let message: FromTaskManager = serde_json::from_str(&text).unwrap();
                if matches!(message, FromTaskManager::Register(_)) {
                    let lease_ms = LEASE.as_millis() as u64;
                    let commands = self.commands.borrow();
                    commands.as_ref().unwrap().send(ToTaskManager::Registered { lease_ms }).unwrap();
                }
                let _ = self.received.send(Received::Message(message));
            }
        };
        futures_util::future::select(std::pin::pin!(write), std::pin::pin!(read)).await;
    }
}

/// Whether a process ends within a time. It may be that of any parent.
pub(crate) fn ends_within(pid: u32, time: Duration) -> bool {
    // SAFETY: a system call without pointers.
    let file = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32;
    if file < 0 {
        // It is gone, and was waited for.
        return true;
    }
    let mut poll = libc::pollfd { fd: file, events: libc::POLLIN, revents: 0 };
    // SAFETY: a pointer to one entry; the descriptor is closed once.
    unsafe {
        let count = libc::poll(&raw mut poll, 1, time.as_millis() as i32);
        libc::close(file);
        count == 1
    }
}

pub(crate) fn signal(pid: u32, signal: i32) {
    // SAFETY: a system call without pointers.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
}
