//! An S3 server for tests.
//!
//! It is a real one, of the crates `s3s` and `s3s-fs`, in a thread of the test: requests come over HTTP, signatures are
//! checked, objects are files in a directory. A test can take it away and bring it back at the same address, and can look at
//! the requests that have come.
//!
//! Not here: what the engine does with it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// The bucket that is there.
pub const BUCKET: &str = "tidegate";
/// The id of the key.
pub const KEY_ID: &str = "TESTKEYID";
/// The secret key, which must not appear anywhere.
pub const SECRET_KEY: &str = "the-secret-key-of-the-test";

/// The server; it ends when it is dropped.
#[derive(Debug)]
pub struct S3Server {
    directory: tempfile::TempDir,
    address: SocketAddr,
    requests: Requests,
    /// None while the server is away.
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// Method and path of every request.
type Requests = Arc<Mutex<Vec<String>>>;

impl S3Server {
    /// Starts a server with an empty bucket, at a port that is free.
    ///
    /// # Panics
    /// If it cannot be started.
    #[expect(clippy::new_without_default, reason = "it starts a thread")]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory for the buckets");
        std::fs::create_dir(directory.path().join(BUCKET)).expect("a directory for the bucket");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { directory, address, requests: Requests::default(), running: None };
        server.come_back();
        server
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The directory with the objects of the bucket.
    pub fn bucket(&self) -> PathBuf {
        self.directory.path().join(BUCKET)
    }

    /// The environment variables by which a process uses the server.
    pub fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY_ID.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ]
    }

    /// The requests since the last call: method, path and query.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Closes the port and all connections.
    ///
    /// # Panics
    /// If its thread has panicked.
    pub fn go_away(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            thread.join().expect("the server has ended");
        }
    }

    /// Serves at the same address again.
    ///
    /// # Panics
    /// If the port was taken meanwhile.
    pub fn come_back(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("threads for the server");
        let listener = runtime.block_on(TcpListener::bind(self.address)).expect("the port is free");
        self.address = listener.local_addr().expect("it listens");
        let (service, requests) = (service(self.directory.path()), self.requests.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, service, requests) => {}
                    _ = stopped => {}
                }
            });
            // Connections break in the middle of a request.
            runtime.shutdown_background();
        });
        self.running = Some((stop, thread));
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.go_away();
    }
}

fn service(directory: &Path) -> S3Service {
    let files = FileSystem::new(directory).expect("the directory of the buckets is there");
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET_KEY));
    builder.build()
}

async fn serve(listener: TcpListener, service: S3Service, requests: Requests) {
    // The server looks whether an object exists, and writes it then: for a condition to hold, one comes after the other.
    let conditional = Arc::new(tokio::sync::Mutex::new(()));
    loop {
        let Ok((socket, _)) = listener.accept().await else { return };
        let (service, requests, conditional) = (service.clone(), requests.clone(), conditional.clone());
        let answer = service_fn(move |request: Request<Incoming>| {
            let (service, conditional) = (service.clone(), conditional.clone());
            let line = format!("{} {}", request.method(), request.uri());
            requests.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            async move {
                let is_conditional = request.headers().contains_key("if-none-match");
                let _alone = if is_conditional { Some(conditional.lock().await) } else { None };
                Ok::<_, Infallible>(answer(&service, request).await)
            }
        });
        let connection = hyper::server::conn::http1::Builder::new();
        tokio::spawn(async move {
            // A connection that breaks is the client's concern.
            let _ = connection.serve_connection(TokioIo::new(socket), answer).await;
        });
    }
}

async fn answer(service: &S3Service, request: Request<Incoming>) -> Response<s3s::Body> {
    hyper::service::Service::call(service, request).await.unwrap_or_else(|error| {
        let mut response = Response::new(s3s::Body::from(format!("{error:?}")));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}
