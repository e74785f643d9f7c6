//! A jobmanager that answers what a test tells it to, and remembers what it was asked. Signatures are checked and proved as
//! by a real one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;
use tidegate_access::{Accepted, Challenges, Request, Secret};

/// A request that has arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Status and body.
pub(crate) type Answer = (u16, Value);

/// Answers the request whose number, among those of the same method and target, is given: counted from 0.
type Answers = dyn Fn(&Asked, usize) -> Answer + Send + Sync;

/// The fake, with a directory in which the program is run.
pub(crate) struct Fake {
    address: String,
    directory: TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    pub(crate) fn start(answers: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let secret = Secret::create(&directory.path().join("secret")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let challenges = Mutex::new(Challenges::new(secret, Secret::generate()));
        let server = Arc::new(Server {
            challenges,
            began: Instant::now(),
            asked: asked.clone(),
            answers: Box::new(answers),
        });
        thread::spawn(move || {
            for stream in listener.incoming() {
                let server = server.clone();
                thread::spawn(move || server.serve(stream.unwrap()));
            }
        });
        Self { address, directory, asked }
    }

    /// Everything that it was asked, but challenges.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The only request of this method.
    pub(crate) fn asked_by(&self, method: &str) -> Asked {
        let all: Vec<Asked> = self.asked().into_iter().filter(|asked| asked.method == method).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The program, about to talk to the fake.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = program(self.path(), line);
        command
            .env("TIDEGATE_JOBMANAGER", &self.address)
            .env("TIDEGATE_SECRET_FILE", self.path().join("secret"));
        command
    }

    /// Runs the program.
    pub(crate) fn run(&self, line: &str) -> Ran {
        Ran::of(self.command(line).output().unwrap())
    }
}

/// The program with a command line whose words have no blanks, in a directory, without an environment that matters.
pub(crate) fn program(directory: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(line.split_whitespace()).current_dir(directory).env_clear();
    command.env("HOME", directory).stdin(Stdio::null());
    command
}

/// What a run of the program has printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { stdout: text(output.stdout), stderr: text(output.stderr), code: output.status.code() }
    }

    /// Standard output of a run without an error.
    #[track_caller]
    pub(crate) fn answer(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.answer()).unwrap()
    }

    /// The error of a run that has printed nothing else.
    #[track_caller]
    pub(crate) fn error(self) -> String {
        assert_eq!((self.code, &*self.stdout), (Some(1), ""), "{self:?}");
        assert!(self.stderr.contains("Error: ") && !self.stderr.contains("panicked"), "{self:?}");
        self.stderr
    }
}

/// A file in the fake's directory that can be uploaded.
pub(crate) fn executable(fake: &Fake) -> PathBuf {
    let path = fake.path().join("job");
    std::fs::write(&path, "the content of a job").unwrap();
    path
}

struct Server {
    challenges: Mutex<Challenges>,
    began: Instant,
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Box<Answers>,
}

impl Server {
    fn serve(&self, mut stream: TcpStream) {
        let Some((asked, authorization)) = read(&stream) else { return };
        if asked.target == "/v1/challenge" {
            let challenge = self.challenges.lock().unwrap().challenge(self.began.elapsed());
            return write(&mut stream, &(200, serde_json::json!({"challenge": challenge})), "");
        }
        let request = Request::of(&asked.method, &asked.target, &asked.body);
        let mut challenges = self.challenges.lock().unwrap();
        let verified = challenges.verify(self.began.elapsed(), &authorization, &asked.method, &asked.target);
        drop(challenges);
        match verified {
            Ok(Accepted { proof, body_sha256 }) => {
                assert_eq!(body_sha256, request.body_sha256);
                let answer = (self.answers)(&asked, self.number(&asked));
                self.asked.lock().unwrap().push(asked);
                write(&mut stream, &answer, &format!("Tidegate-Proof: {proof}\r\n"));
            }
            Err(refused) => {
                write(&mut stream, &(401, serde_json::json!({"error": refused.to_string()})), "");
            }
        }
    }

    fn number(&self, asked: &Asked) -> usize {
        let all = self.asked.lock().unwrap();
        all.iter().filter(|other| (&other.method, &other.target) == (&asked.method, &asked.target)).count()
    }
}

/// A request and its `Authorization` header.
fn read(stream: &TcpStream) -> Option<(Asked, String)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let (mut authorization, mut length) = (String::new(), 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match &*name.to_ascii_lowercase() {
            "authorization" => value.clone_into(&mut authorization),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((Asked { method, target, body }, authorization))
}

fn write(stream: &mut TcpStream, (status, body): &Answer, headers: &str) {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    // The client may be gone.
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}
