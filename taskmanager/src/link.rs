//! The connection to the jobmanager: a WebSocket, on a thread of its own.
//!
//! The upgrade request is signed, and the response must prove that the jobmanager has the secret, before anything is sent
//! or obeyed. After that every text message is one [`ToTaskManager`] or [`FromTaskManager`], as JSON. When the connection
//! breaks, or nothing has come for the lease, the next one is made at once, to the addresses in turn, and then every 200 ms.
//!
//! [`FromTaskManager`]: tidegate_protocol::taskmanager::FromTaskManager
//!
//! Not here: what is sent when, the registration included (`supervisor`).

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel};
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use futures_util::{SinkExt, StreamExt};
use tidegate_client::{Client, PROOF_HEADER, Signed};
use tidegate_protocol::taskmanager::ToTaskManager;
use tidegate_protocol::{Error, Result};
use tidegate_transport::{explain_handshake, explain_io};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::job_process::spawn;
use crate::runner::Incoming;
use crate::supervisor::Event;

/// The longest message, in both directions.
pub(crate) const MESSAGE_BYTES_MAX: usize = 256 << 20;
/// Messages that wait to be sent.
const QUEUE: usize = 65_536;
/// Where a jobmanager accepts taskmanagers.
const PATH: &str = "/v1/taskmanagers/link";
/// How long to wait before all addresses are tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// A jobmanager that does not read a message for so many leases is lost, even if it sends.
const WRITE_LEASES: u32 = 4;
/// How long what is queued may take to be sent at the end.
const LEAVE: Duration = Duration::from_millis(500);

/// The sending end of one connection. When it is dropped, what is queued is sent and the connection closed.
pub(crate) type Outgoing = mpsc::Sender<String>;

/// The thread with the connection.
#[derive(Debug)]
pub(crate) struct Link {
    lease_ms: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    ended: Receiver<()>,
}

impl Link {
    /// Starts to connect to the addresses of the client.
    pub(crate) fn start(client: Client, lease: Duration, events: SyncSender<Incoming>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let ((stop, stopped), (end, ended)) = (watch::channel(false), channel());
        let lease_ms = Arc::new(AtomicU64::new(ms(lease)));
        let connector = Connector { client, lease_ms: lease_ms.clone(), events, stopped, shown: None };
        spawn("link", move || {
            runtime.block_on(connector.run());
            // A name that is being looked up is not waited for.
            runtime.shutdown_background();
            drop(end);
        })?;
        Ok(Self { lease_ms, stop, ended })
    }

    /// From now on a connection is given up after this time without a message.
    pub(crate) fn set_lease(&self, lease: Duration) {
        self.lease_ms.store(ms(lease), Ordering::Relaxed);
    }

    /// Ends the thread, whose [`Outgoing`] was dropped before. Waits a moment for what is still to be sent.
    pub(crate) fn leave(self) {
        self.stop.send_replace(true);
        let _ = self.ended.recv_timeout(LEAVE);
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

struct Connector {
    client: Client,
    lease_ms: Arc<AtomicU64>,
    events: SyncSender<Incoming>,
    stopped: watch::Receiver<bool>,
    /// Why there is no connection, as it was last logged.
    shown: Option<String>,
}

impl Connector {
    /// Connects again and again until it is stopped.
    async fn run(mut self) {
        let addresses = self.client.addresses().to_vec();
        // The address that comes first: the one that was connected last.
        let mut first = 0;
        while !*self.stopped.borrow() {
            let began = Instant::now();
            let mut causes = Vec::new();
            for i in 0..addresses.len() {
                let index = (first + i) % addresses.len();
                let address = &addresses[index];
                let mut stopped = self.stopped.clone();
                let connected = {
                    let (connect, stop) = (pin!(self.connect(address)), pin!(stopped.wait_for(|stop| *stop)));
                    match select(connect, stop).await {
                        Either::Left((connected, _)) => connected,
                        Either::Right(_) => return,
                    }
                };
                match connected {
                    Ok(socket) => {
                        first = index;
                        self.shown = None;
                        tracing::info!(target: "tidegate", "connected to the jobmanager at {address}");
                        let why = self.serve(socket).await;
                        if *self.stopped.borrow() || self.events.send(Incoming::Disconnected).is_err() {
                            return;
                        }
                        tracing::warn!(target: "tidegate", "the connection to the jobmanager at {address} has ended: {why}");
                        causes.clear();
                        break;
                    }
                    Err(error) => causes.push(format!("{address}: {error}")),
                }
            }
            if !causes.is_empty() {
                self.show(causes.join("; "));
            }
            // A connection that has lasted is made anew at once.
            if !causes.is_empty() || began.elapsed() < AGAIN {
                self.pause().await;
            }
        }
    }

    fn show(&mut self, why: String) {
        if self.shown.as_ref() != Some(&why) {
            tracing::warn!(target: "tidegate", "no jobmanager can be reached: {why}");
            self.shown = Some(why);
        }
    }

    async fn pause(&mut self) {
        let _ = timeout(AGAIN, self.stopped.wait_for(|stop| *stop)).await;
    }

    fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms.load(Ordering::Relaxed))
    }

    async fn connect(&self, address: &str) -> Result<Socket> {
        // It blocks, for at most the client's timeout: nothing else is to be done on this thread meanwhile.
        let signed = self.client.signed_upgrade(address, PATH)?;
        let lease = self.lease();
        let connected = timeout(lease, upgrade(&signed, self.client.tls())).await;
        connected.unwrap_or_else(|_| {
            Err(Error::environment(format!("no answer to the upgrade within {} s", lease.as_secs_f64())))
        })
    }

    /// Passes messages on until the connection is over; says why.
    async fn serve(&self, socket: Socket) -> String {
        let (outgoing, queued) = mpsc::channel(QUEUE);
        if self.events.send(Incoming::Connected(outgoing)).is_err() {
            return String::new();
        }
        let (sink, stream) = socket.split();
        let (read, write) = (pin!(self.read(stream)), pin!(self.write(sink, queued)));
        match select(read, write).await {
            Either::Left((why, _)) | Either::Right((why, _)) => why,
        }
    }

    /// Sends what is queued until the queue is closed.
    async fn write(
        &self,
        mut sink: impl SinkExt<Message, Error = tungstenite::Error> + Unpin,
        mut queued: mpsc::Receiver<String>,
    ) -> String {
        while let Some(text) = queued.recv().await {
            match timeout(WRITE_LEASES * self.lease(), sink.send(Message::text(text))).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return "it does not read its messages".to_owned(),
            }
        }
        let _ = timeout(self.lease(), sink.close()).await;
        "it was closed by this side".to_owned()
    }

    async fn read(&self, mut stream: impl StreamExt<Item = tungstenite::Result<Message>> + Unpin) -> String {
        loop {
            let lease = self.lease();
            let message = match timeout(lease, stream.next()).await {
                Err(_) => return format!("nothing has come for {} s", lease.as_secs_f64()),
                Ok(None | Some(Ok(Message::Close(_)))) => return "it was closed".to_owned(),
                Ok(Some(Err(error))) => return error.to_string(),
                Ok(Some(Ok(message))) => message,
            };
            let Message::Text(text) = message else { continue };
            match serde_json::from_str::<ToTaskManager>(&text) {
                Ok(message) => {
                    if self.events.send(Incoming::Event(Event::Message(message))).is_err() {
                        return String::new();
                    }
                }
                // One of a later version, say.
                Err(error) => {
                    tracing::warn!(target: "tidegate", "a message of the jobmanager is not understood: {error}");
                }
            }
        }
    }
}

/// The jobmanager's end of a connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

type Socket = WebSocketStream<Box<dyn Stream>>;

/// Connects, and goes through the handshake of TLS.
async fn open(address: &str, tls: Option<&tidegate_transport::Connector>) -> Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let connecting = tokio_rustls::TlsConnector::from(tls.config()).connect(tls.name(address)?, stream);
    Ok(Box::new(connecting.await.map_err(|e| Error::environment(explain_handshake(&e)))?))
}

async fn upgrade(signed: &Signed, tls: Option<&tidegate_transport::Connector>) -> Result<Socket> {
    let stream = open(signed.address(), tls).await?;
    let scheme = if tls.is_some() { "wss" } else { "ws" };
    let uri = format!("{scheme}://{}{PATH}", signed.address()).parse().map_err(invalid_address)?;
    let request = ClientRequestBuilder::new(uri).with_header("Authorization", signed.authorization());
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let connecting = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
    let (socket, response) = connecting.await.map_err(refused)?;
    let proof = response.headers().get(PROOF_HEADER).and_then(|value| value.to_str().ok());
    signed.verify(proof)?;
    Ok(socket)
}

fn invalid_address(error: tungstenite::http::uri::InvalidUri) -> Error {
    Error::environment("the address is not valid").caused_by(error)
}

/// Why there is no WebSocket.
fn refused(error: tungstenite::Error) -> Error {
    let response = match &error {
        tungstenite::Error::Http(response) => response,
        tungstenite::Error::Io(error) => return Error::environment(explain_io(error)),
        error => return Error::environment(error.to_string()),
    };
    Error::environment(match response.status() {
        StatusCode::FORBIDDEN => {
            "it wants a certificate of this taskmanager: set tls.certificate and tls.key".to_owned()
        }
        StatusCode::UNAUTHORIZED => "it refuses the cluster secret".to_owned(),
        StatusCode::SERVICE_UNAVAILABLE => "it does not lead the cluster".to_owned(),
        status => format!("it answered with the HTTP status {}", status.as_u16()),
    })
}
