use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::*;
use crate::kafka::ReadError;

/// A request: the line, the header Authorization, the body.
type Request = (String, String, String);

/// A registry whose answers a test writes.
pub(in crate::kafka) struct TestRegistry {
    pub(in crate::kafka) url: String,
    requests: Receiver<Request>,
}

impl TestRegistry {
    /// Answers every request by a function of its path: status and body.
    pub(in crate::kafka) fn start(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    fn listen(listener: TcpListener, answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (heard, requests) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(request) = stream.and_then(|stream| serve(stream, &answer)) else { continue };
                if heard.send(request).is_err() {
                    return;
                }
            }
        });
        Self { url, requests }
    }

    /// Answers with the schemas of ids, as registries do.
    pub(in crate::kafka) fn of_schemas(schemas: &'static [(u32, &'static str)]) -> Self {
        Self::start(move |path| {
            let id = path.strip_prefix("/schemas/ids/").and_then(|id| id.parse().ok());
            match schemas.iter().find(|(known, _)| Some(*known) == id) {
                Some((_, answer)) => (200, (*answer).to_owned()),
                None => (404, r#"{"error_code": 40403, "message": "Schema not found"}"#.to_owned()),
            }
        })
    }

    pub(in crate::kafka) fn registry(&self) -> SchemaRegistry {
        SchemaRegistry::new(&self.url).unwrap()
    }

    fn request(&self) -> Request {
        self.requests.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

/// Answers one request; the connection is not kept.
fn serve(mut stream: impl Read + Write, answer: &impl Fn(&str) -> (u16, String)) -> std::io::Result<Request> {
    let mut reader = BufReader::new(&mut stream);
    let (mut line, mut authorization, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut line)?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => authorization = value.to_owned(),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (status, text) = answer(line.split(' ').nth(1).unwrap_or_default());
    write!(
        stream,
        "HTTP/1.1 {status} It\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )?;
    Ok((line.trim().to_owned(), authorization, String::from_utf8_lossy(&body).into_owned()))
}

/// Asks until there is an answer, as a reader does.
pub(in crate::kafka) fn answered<T>(mut ask: impl FnMut() -> Result<T, ReadError>) -> Result<T, ReadError> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let began = Instant::now();
        let answer = ask();
        assert!(began.elapsed() < Duration::from_secs(1), "a worker has waited for the registry");
        match answer {
            Err(ReadError::NotYet) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            other => return other,
        }
    }
}

/// What the reason for a dead letter is.
pub(in crate::kafka) fn malformed<T: std::fmt::Debug>(answer: Result<T, ReadError>) -> String {
    match answer {
        Err(ReadError::Malformed(what)) => what,
        other => panic!("{other:?}"),
    }
}

fn failed<T: std::fmt::Debug>(answer: Result<T, ReadError>) -> String {
    match answer {
        Err(ReadError::Failed(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn schema(registry: &SchemaRegistry, id: u32) -> Result<Arc<RegisteredSchema>, ReadError> {
    answered(|| registry.schemas().schema(id))
}

#[test]
fn a_schema_is_asked_for_once() {
    let server = TestRegistry::of_schemas(&[(7, r#"{"schema": "\"long\""}"#)]);
    let registry = server.registry();
    let found = schema(&registry, 7).unwrap();
    assert_eq!((found.kind.as_str(), found.text.as_str()), ("AVRO", "\"long\""));
    assert!(schema(&registry.clone(), 7).is_ok());
    assert_eq!(server.request().0, "GET /schemas/ids/7 HTTP/1.1");
    assert!(server.requests.try_recv().is_err());
    assert!(found.of_type(SchemaType::Protobuf).unwrap_err().contains("of the type AVRO, and not PROTOBUF"));
}

#[test]
fn what_a_schema_refers_to_is_fetched_deepest_first() {
    let server = TestRegistry::start(|path| {
        let answer = match path {
            "/schemas/ids/1" => {
                r#"{"schema": "a", "schemaType": "PROTOBUF", "references": [
                {"name": "b.proto", "subject": "dir/b", "version": 2}, {"name": "c.proto", "subject": "c", "version": 1}]}"#
            }
            "/subjects/dir%2Fb/versions/2" => {
                r#"{"schema": "b", "id": 5, "references": [{"name": "c.proto", "subject": "c", "version": 1}]}"#
            }
            "/subjects/c/versions/1" => r#"{"schema": "c", "id": 6}"#,
            _ => return (404, String::new()),
        };
        (200, answer.to_owned())
    });
    let found = schema(&server.registry(), 1).unwrap();
    let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    assert_eq!(found.references, [pair("c.proto", "c"), pair("b.proto", "b")]);
    assert_eq!(found.kind, "PROTOBUF");
}

#[test]
fn an_id_that_is_not_known_is_the_messages_fault() {
    let server = TestRegistry::of_schemas(&[]);
    let registry = server.registry();
    let what = malformed(schema(&registry, 9));
    assert_eq!(
        what,
        format!("the schema registry {} has no schema of the id 9: Schema not found (40403)", server.url)
    );
    assert_eq!(malformed(schema(&registry, 9)), what);
    assert!(malformed(schema(&registry, u32::MAX)).contains("4294967295 is no id of a schema"));
    assert_eq!(server.request().0, "GET /schemas/ids/9 HTTP/1.1");
    assert!(server.requests.try_recv().is_err());
}

#[test]
fn an_answer_of_something_else_ends_the_job() {
    for (status, body, said) in [
        (404, "<html>Not Found</html>", "answers 404 to /schemas/ids/1"),
        (301, "", "answers 301"),
        (200, "{}", "is it a schema registry?"),
        (422, r#"{"error_code": 42201, "message": "Invalid schema"}"#, "Invalid schema (42201)"),
    ] {
        let server = TestRegistry::start(move |_| (status, body.to_owned()));
        let error = failed(schema(&server.registry(), 1));
        assert!(error.contains(said) && error.contains(&server.url), "{error}");
    }
}

#[test]
fn user_and_password_are_sent_and_shown_nowhere() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "reader:hunter2\n").unwrap();
    let place = format!("file:{}", file.path().display());
    let server =
        TestRegistry::start(|_| (401, r#"{"error_code": 40101, "message": "Unauthorized"}"#.to_owned()));
    let registry = server.registry().basic_auth(&place).unwrap();
    let error = failed(schema(&registry, 1));
    assert!(error.contains(&server.url) && error.contains("check what basic_auth names"), "{error}");
    assert_eq!(server.request().1, "Basic cmVhZGVyOmh1bnRlcjI=");
    let shown = format!("{error} {registry:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("cmVh"), "{shown}");

    let refused =
        SchemaRegistry::new("http://a").unwrap().basic_auth("reader:hunter2").unwrap_err().to_string();
    assert!(refused.contains("file:PATH or env:NAME") && !refused.contains("hunter2"), "{refused}");
    let refused = SchemaRegistry::new("http://reader:hunter2@a").unwrap_err().to_string();
    assert!(refused.contains("basic_auth") && !refused.contains("hunter2"), "{refused}");
    let missing =
        SchemaRegistry::new("http://a").unwrap().basic_auth("env:TIDEGATE_NO_SUCH_VARIABLE").unwrap();
    let missing = missing.check().unwrap_err().to_string();
    assert!(missing.contains("TIDEGATE_NO_SUCH_VARIABLE"), "{missing}");
    std::fs::write(file.path(), "hunter2\n").unwrap();
    let error =
        SchemaRegistry::new("http://a").unwrap().basic_auth(&place).unwrap().check().unwrap_err().to_string();
    assert!(error.contains("USER:PASSWORD") && !error.contains("hunter2"), "{error}");
}

#[test]
fn who_may_not_read_ends_the_job() {
    let server = TestRegistry::start(|_| (403, String::new()));
    let error = failed(schema(&server.registry(), 1));
    assert!(error.contains("answers 403 to /schemas/ids/1") && error.contains("needs the right"), "{error}");
}

#[test]
fn a_registry_that_is_away_is_waited_for() {
    // The port is free for the moment, so connections are refused.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let registry = SchemaRegistry::new(&format!("http://{address}")).unwrap();
    let not_yet = || matches!(registry.schemas().schema(7), Err(ReadError::NotYet));
    let until = Instant::now() + Duration::from_millis(500);
    while Instant::now() < until {
        assert!(not_yet());
        std::thread::sleep(Duration::from_millis(10));
    }
    let count = std::sync::atomic::AtomicU32::new(0);
    let server = TestRegistry::listen(TcpListener::bind(address).unwrap(), move |_| {
        match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => (503, String::new()),
            1 => (500, r#"{"error_code": 50001, "message": "Error in the backend"}"#.to_owned()),
            _ => (200, r#"{"schema": "\"long\""}"#.to_owned()),
        }
    });
    assert_eq!(schema(&registry, 7).unwrap().text, "\"long\"");
    assert_eq!(server.requests.try_iter().count(), 3);
}

#[test]
fn a_registry_that_does_not_answer_holds_nobody_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let registry = SchemaRegistry::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let began = Instant::now();
    assert!(matches!(registry.schemas().schema(7), Err(ReadError::NotYet)));
    let (stream, _) = listener.accept().unwrap();
    assert!(matches!(registry.schemas().schema(8), Err(ReadError::NotYet)));
    assert!(began.elapsed() < Duration::from_secs(4));
    // The request is given up after five seconds, and the next one is for what waits longest.
    let (again, _) = listener.accept().unwrap();
    assert!(began.elapsed() > Duration::from_secs(4), "{:?}", began.elapsed());
    serve(&again, &|_| (200, r#"{"schema": "\"long\""}"#.to_owned())).unwrap();
    assert!(schema(&registry, 8).is_ok());
    drop(stream);
}

#[test]
fn an_id_that_a_registry_cannot_answer_holds_no_other_up() {
    let server = TestRegistry::start(|path| match path {
        "/schemas/ids/1" => (500, r#"{"error_code": 50001, "message": "Error in the backend"}"#.to_owned()),
        _ => (200, r#"{"schema": "\"long\""}"#.to_owned()),
    });
    let registry = server.registry();
    for id in 1..5 {
        assert!(matches!(registry.schemas().schema(id), Err(ReadError::NotYet)));
    }
    for id in 2..5 {
        assert!(schema(&registry, id).is_ok());
    }
    assert!(matches!(registry.schemas().schema(1), Err(ReadError::NotYet)));
}

#[test]
fn a_sinks_schema_is_registered_once_or_looked_up() {
    let server = TestRegistry::start(|path| match path {
        "/subjects/plant%3Ahot/versions" | "/subjects/t-value" => (200, r#"{"id": 3}"#.to_owned()),
        _ => (404, r#"{"error_code": 40401, "message": "Subject not found"}"#.to_owned()),
    });
    let registry = server.registry();
    let registered = Registered::new((), &registry).subject("plant:hot");
    assert_eq!(registered.id("t", SchemaType::Protobuf, "message").unwrap(), 3);
    assert_eq!(registered.id("t", SchemaType::Protobuf, "message").unwrap(), 3);
    let (line, _, body) = server.request();
    assert_eq!(line, "POST /subjects/plant%3Ahot/versions HTTP/1.1");
    assert_eq!(body, r#"{"schema":"message","schemaType":"PROTOBUF"}"#);
    assert!(server.requests.try_recv().is_err());

    let looked_up = Registered::new((), &registry.auto_register(false));
    assert_eq!(looked_up.id("t", SchemaType::Avro, "\"long\"").unwrap(), 3);
    let (line, _, body) = server.request();
    assert_eq!(
        (line.as_str(), body.as_str()),
        ("POST /subjects/t-value HTTP/1.1", r#"{"schema":"\"long\""}"#)
    );
    let error = looked_up.id("other", SchemaType::Avro, "\"long\"").unwrap_err().to_string();
    assert!(error.contains("other-value: Subject not found (40401). Register it"), "{error}");
}

#[test]
fn a_schema_that_the_registry_refuses_ends_the_job() {
    let conflict =
        r#"{"error_code": 409, "message": "Schema being registered is incompatible with an earlier schema"}"#;
    let server = TestRegistry::start(move |_| (409, conflict.to_owned()));
    let registered = Registered::new((), &server.registry());
    let error = registered.id("t", SchemaType::Avro, "\"long\"").unwrap_err().to_string();
    assert!(error.contains("subject t-value") && error.contains("incompatible with an earlier"), "{error}");
}

#[test]
fn the_certificate_of_a_registry_is_checked() {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let (ours, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = tidegate_test_certificates::Authority::new(ours.path());
    let other = tidegate_test_certificates::Authority::new(others.path());
    let files = authority.issue("registry", &["127.0.0.1"]);
    let certificates =
        CertificateDer::pem_file_iter(&files.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let stream = rustls::StreamOwned::new(connection, stream.unwrap());
            drop(serve(stream, &|_| (200, r#"{"schema": "\"long\""}"#.to_owned())));
        }
    });
    let registry = |host: &str, ca: PathBuf| {
        schema(&SchemaRegistry::new(&format!("https://{host}:{port}")).unwrap().ca_file(ca), 1)
    };
    assert_eq!(registry("127.0.0.1", authority.file()).unwrap().text, "\"long\"");
    let error = failed(registry("127.0.0.1", other.file()));
    assert!(error.contains("cannot be reached by TLS") && error.contains("ca_file"), "{error}");
    let error = failed(registry("localhost", authority.file()));
    assert!(error.contains("cannot be reached by TLS"), "{error}");
}

#[test]
fn addresses_and_certificates_are_checked_at_the_start() {
    for url in ["", "registry:8081", "ftp://registry", "http://", "http://a b"] {
        let error = SchemaRegistry::new(url).unwrap_err().to_string();
        assert!(error.contains("address of the schema registry"), "{url}: {error}");
    }
    let with = |path: &std::path::Path| SchemaRegistry::new("https://a/").unwrap().ca_file(path).check();
    let missing = with("/nowhere/ca.pem".as_ref()).unwrap_err().to_string();
    assert!(missing.contains("/nowhere/ca.pem") && missing.contains("https://a,"), "{missing}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let empty = with(file.path()).unwrap_err().to_string();
    assert!(empty.contains("no certificate"), "{empty}");
}
