//! Accepts connections and serves HTTP on them, with TLS if there is a certificate.
//!
//! Nobody is waited for: a connection on which nobody has proved the secret ends after `timeouts.authentication`, whatever it
//! is doing, and one whose host is gone is broken by the system.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tidegate_rest::Failure;
use tidegate_transport::{Acceptor, explain_handshake};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use super::connections::{Connections, Peer, Seat};
use super::lingering::Lingering;
use super::seldom::Seldom;

/// How long to wait where no connection can be accepted, because too many files are open. There is no event for that.
const AGAIN: Duration = Duration::from_millis(20);
/// After this time without an answer of the other host's system a connection is broken.
const GONE: Duration = Duration::from_secs(30);
/// The most bytes of a request's head, and of a body that wait to be taken: what a connection has in memory.
const BUFFER_BYTES: usize = 64 << 10;
/// The first byte of a TLS connection.
const HANDSHAKE: u8 = 22;
/// What somebody is told who does not speak TLS.
const TLS_IS_WANTED: &str = "this jobmanager speaks TLS: set tls.ca to the CA file of the cluster (--tls-ca FILE or the \
                             environment variable TIDEGATE_TLS_CA), or write https:// instead of http://";

/// What serves connections.
pub(super) struct Listener {
    pub(super) connections: Arc<Connections>,
    /// None for connections without TLS.
    pub(super) tls: Option<Acceptor>,
    pub(super) router: Router,
    /// How long a connection may take until the secret was proved on it, and a request until it has arrived.
    pub(super) authentication: Duration,
}

impl Listener {
    /// Serves until the future is dropped.
    pub(super) async fn serve(self, listener: TcpListener) {
        let this = Arc::new(self);
        let (mut refused, mut failed) = (Seldom::default(), Seldom::default());
        loop {
            match listener.accept().await {
                Ok((tcp, address)) => match this.connections.admit(address.ip()) {
                    Some((seat, closed)) => {
                        tokio::spawn(this.clone().run(tcp, seat, closed));
                    }
                    None => warn_of_refusal(&mut refused, address),
                },
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if let Some(more) = failed.happened(Instant::now()) {
                        tracing::warn!(target: "tidegate", "no connection can be accepted: {error}{more}");
                    }
                    this.connections.close_oldest();
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Serves a connection until it is over, or has to be closed.
    async fn run(self: Arc<Self>, tcp: TcpStream, seat: Arc<Seat>, closed: oneshot::Receiver<()>) {
        let must_be_closed = async {
            // With an error it is no stranger's any more, and may last.
            if let Ok(Err(_)) = tokio::time::timeout(self.authentication, closed).await {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            served = self.serve_one(tcp, seat) => {
                if let Err(why) = served {
                    tracing::debug!(target: "tidegate", "a connection has failed: {why}");
                }
            }
            () = must_be_closed => {}
        }
    }

    async fn serve_one(&self, tcp: TcpStream, seat: Arc<Seat>) -> Result<(), String> {
        prepare(&tcp).map_err(|e| e.to_string())?;
        let Some(acceptor) = &self.tls else {
            return self.serve_http(tcp, Peer { seat, has_certificate: false }).await;
        };
        if !speaks_tls(&tcp).await.map_err(|e| e.to_string())? {
            return refuse_plain(tcp).await.map_err(|e| e.to_string());
        }
        let accepting = TlsAcceptor::from(acceptor.config()).accept(tcp);
        let stream = accepting.await.map_err(|e| explain_handshake(&e))?;
        let has_certificate = stream.get_ref().1.peer_certificates().is_some();
        self.serve_http(stream, Peer { seat, has_certificate }).await
    }

    async fn serve_http<S>(&self, stream: S, peer: Peer) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            // A router is always ready.
            self.router.clone().call(request.map(Body::new))
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.authentication)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(Lingering::new(stream)), service)
            .with_upgrades();
        serving.await.map_err(|e| e.to_string())
    }
}

fn warn_of_refusal(refused: &mut Seldom, address: SocketAddr) {
    if let Some(more) = refused.happened(Instant::now()) {
        tracing::warn!(target: "tidegate",
            "a connection from {address} is refused: there are limits.connections already, all of them of users and \
             taskmanagers with the secret{more}");
    }
}

/// A host that is gone is noticed although it does not say so.
fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let options = SockRef::from(tcp);
    options.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(GONE / 2).with_interval(GONE / 6).with_retries(3),
    )?;
    options.set_tcp_user_timeout(Some(GONE))
}

/// Whether the error is that of one connection, which was broken before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Looks at the first byte, which stays to be read. Who closes the connection is told nothing.
async fn speaks_tls(tcp: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(tcp.peek(&mut first).await? == 0 || first[0] == HANDSHAKE)
}

async fn refuse_plain(mut tcp: TcpStream) -> io::Result<()> {
    let failure = Failure { error: TLS_IS_WANTED.to_owned(), not_leading: false };
    let body = serde_json::to_string(&failure)?;
    let text = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    tcp.write_all(text.as_bytes()).await?;
    tcp.shutdown().await?;
    // Until the client has read it: with its request unread, the connection would be reset.
    tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await.map(drop)
}
