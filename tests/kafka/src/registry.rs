//! A schema registry for a test, started by `scripts/schema-registry.sh`.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A registry with nothing in it.
pub struct Registry {
    url: String,
    directory: tempfile::TempDir,
    port: u16,
}

impl Registry {
    /// Fetches it, if it was not before.
    ///
    /// # Errors
    /// Why it cannot be fetched.
    pub fn fetch() -> Result<(), String> {
        let output = Command::new(script()).arg("fetch").stdin(Stdio::null()).output();
        let output = output.map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// Why it does not start: Java or the artifact is missing and cannot be fetched.
    pub fn start() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.map_err(|error| error.to_string())?.port();
        let mut this = Self { url: String::new(), directory, port };
        let output = this.script("up").stderr(Stdio::piped()).output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        this.url = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(this)
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops it as it is: it takes connections, and answers nothing.
    pub fn pause(&self) {
        self.run("pause");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.run("cont");
    }

    /// Registers a schema, as JSON of the interface; its id.
    pub fn register(&self, subject: &str, body: &str) -> u32 {
        let answer = ureq::post(format!("{}/subjects/{subject}/versions", self.url))
            .header("Content-Type", "application/vnd.schemaregistry.v1+json")
            .send(body);
        let text = answer.expect("an answer").body_mut().read_to_string().expect("a text");
        let id = text.trim_start_matches(r#"{"id":"#).trim_end_matches('}');
        id.parse().unwrap_or_else(|_| panic!("{subject}: {text}"))
    }

    fn run(&self, verb: &str) {
        let status = self.script(verb).status().expect("the script starts");
        assert!(status.success(), "schema-registry.sh {verb}: {status}");
    }

    fn script(&self, verb: &str) -> Command {
        let mut command = Command::new(script());
        command
            .arg(verb)
            .env("REGISTRY_DIR", self.directory.path())
            .env("REGISTRY_PORT", self.port.to_string());
        command.env("REGISTRY_OWNER", std::process::id().to_string()).stdin(Stdio::null());
        command
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.script("down").status());
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/schema-registry.sh")
}
