//! Requests to a schema registry, by its REST interface.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidegate_protocol::{Error, ErrorContext as _, Result as JobResult};
use ureq::http::{Method, Request, StatusCode, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::Settings;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const ANSWER_BYTES: u64 = 16 << 20;
/// How many schemas one may refer to, directly or not.
const REFERENCES: usize = 1_000;
/// What stays as it is in a part of a URL: letters, digits and the unreserved characters of RFC 3986.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const CONTENT: &str = "application/vnd.schemaregistry.v1+json";

/// What kinds of schemas there are here; a registry has others, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kafka) enum SchemaType {
    #[cfg_attr(not(feature = "avro"), allow(dead_code, reason = "it is a feature"))]
    Avro,
    #[cfg_attr(not(feature = "protobuf"), allow(dead_code, reason = "it is a feature"))]
    Protobuf,
}

impl SchemaType {
    pub(in crate::kafka) fn name(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Protobuf => "PROTOBUF",
        }
    }
}

/// A schema, with all that it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kafka) struct RegisteredSchema {
    /// `AVRO`, `PROTOBUF`, `JSON` or what else there will be.
    pub(in crate::kafka) kind: String,
    pub(in crate::kafka) text: String,
    /// The schemas that it refers to, by the name that it has for them; each behind those that itself refers to.
    pub(in crate::kafka) references: Vec<(String, String)>,
}

impl RegisteredSchema {
    /// The schema, if it is of this kind.
    pub(in crate::kafka) fn of_type(&self, kind: SchemaType) -> Result<&Self, String> {
        match self.kind == kind.name() {
            true => Ok(self),
            false => Err(format!("it is of the type {}, and not {}", self.kind, kind.name())),
        }
    }
}

/// Why there is no answer, or not the one that was asked for.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The registry does not answer, or cannot now.
    Away(String),
    /// It does not have what was asked for.
    Unknown(String),
    /// It will not answer otherwise until somebody does something.
    Final(Error),
}

pub(super) struct Client {
    url: String,
    agent: ureq::Agent,
    authorization: Option<String>,
}

impl Client {
    /// Reads secrets and certificates. Nothing is connected.
    pub(super) fn new(settings: &Settings) -> JobResult<Self> {
        let url = settings.url.clone();
        let secret =
            settings.basic_auth.as_ref().map(|value| value.resolve(&format!("USER:PASSWORD of {url}")));
        let authorization = match secret.transpose()? {
            None => None,
            Some(secret) if secret.contains(':') => Some(format!("Basic {}", BASE64.encode(secret))),
            Some(_) => {
                return Err(Error::job(format!(
                    "what is given as user and password of the schema registry {url} has no colon in it: it is to be USER:PASSWORD"
                )));
            }
        };
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(roots(settings)?)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(REQUEST))
            .tls_config(tls)
            .build();
        Ok(Self { url, agent: config.into(), authorization })
    }

    /// The schema of an id.
    pub(super) fn schema(&self, id: u32) -> Result<RegisteredSchema, Refusal> {
        let found: Answer = self.ask(Method::GET, &format!("/schemas/ids/{id}"), None)?;
        let (mut references, mut seen) = (Vec::new(), BTreeSet::new());
        self.follow(found.references, &mut references, &mut seen)?;
        let kind = found.schema_type.unwrap_or_else(|| SchemaType::Avro.name().to_owned());
        Ok(RegisteredSchema { kind, text: found.schema, references })
    }

    /// Adds what is referred to, what that refers to in front of it.
    fn follow(
        &self,
        references: Option<Vec<Reference>>,
        all: &mut Vec<(String, String)>,
        seen: &mut BTreeSet<String>,
    ) -> Result<(), Refusal> {
        for Reference { name, subject, version } in references.unwrap_or_default() {
            if seen.len() == REFERENCES {
                return Err(Refusal::Unknown(format!("it refers to more than {REFERENCES} others")));
            }
            if !seen.insert(name.clone()) {
                continue;
            }
            let path = format!("/subjects/{}/versions/{version}", encoded(&subject));
            let found: Answer = self.ask(Method::GET, &path, None)?;
            self.follow(found.references, all, seen)?;
            all.push((name, found.schema));
        }
        Ok(())
    }

    /// Registers a schema, if it is not there under this subject; its id.
    pub(super) fn register(&self, subject: &str, kind: SchemaType, text: &str) -> Result<u32, Refusal> {
        self.id(&format!("/subjects/{}/versions", encoded(subject)), kind, text)
    }

    /// The id of a schema that is there under this subject.
    pub(super) fn look_up(&self, subject: &str, kind: SchemaType, text: &str) -> Result<u32, Refusal> {
        self.id(&format!("/subjects/{}", encoded(subject)), kind, text)
    }

    fn id(&self, path: &str, kind: SchemaType, text: &str) -> Result<u32, Refusal> {
        // Avro has no type: older registries know no others.
        let schema_type = (kind != SchemaType::Avro).then(|| kind.name());
        let body = serde_json::to_vec(&Question { schema: text, schema_type })
            .map_err(|error| Refusal::Final(Error::internal(error.to_string())))?;
        self.ask(Method::POST, path, Some(body)).map(|Id { id }| id)
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T, Refusal> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        request = request.header(header::ACCEPT, format!("{CONTENT}, application/json"));
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let invalid = |error| Refusal::Final(Error::job(format!("{} cannot be asked: {error}", self.url)));
        let answer = match body {
            Some(body) => {
                let request = request.header(header::CONTENT_TYPE, CONTENT);
                self.agent.run(request.body(body).map_err(invalid)?)
            }
            None => self.agent.run(request.body(()).map_err(invalid)?),
        };
        let mut answer = answer.map_err(|error| self.not_answered(error))?;
        let (status, mut text) = (answer.status(), Vec::new());
        let reader = answer.body_mut().as_reader().take(ANSWER_BYTES);
        let read = std::io::BufReader::new(reader).read_to_end(&mut text);
        read.map_err(|error| self.not_answered(error.into()))?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&text).map_err(|error| {
                self.refused(format!("its answer to {path} cannot be read, is it a schema registry? {error}"))
            });
        }
        Err(self.answered(path, status, &text))
    }

    /// There is no answer; that there will be one later can be hoped, but not if the connection cannot be trusted.
    fn not_answered(&self, error: ureq::Error) -> Refusal {
        let url = &self.url;
        let is_tls = matches!(error, ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::TlsRequired)
            || matches!(&error, ureq::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()));
        if is_tls {
            return Refusal::Final(Error::environment(format!(
                "the schema registry {url} cannot be reached by TLS: {error}. Check that the name in the address is that of its \
                 certificate, and that an authority of ca_file, or of the system, has signed it"
            )));
        }
        Refusal::Away(error.to_string())
    }

    fn answered(&self, path: &str, status: StatusCode, body: &[u8]) -> Refusal {
        let (url, code) = (&self.url, status.as_u16());
        let said: Option<Said> = serde_json::from_slice(body).ok();
        let text = match &said {
            Some(said) => format!("{} ({})", said.message, said.error_code),
            None => status.canonical_reason().unwrap_or("no reason given").to_owned(),
        };
        match (code, said) {
            // That a subject, a version or a schema is not there; another 404 is of somebody else.
            (404, Some(Said { error_code: 40401..=40403, .. })) => Refusal::Unknown(text),
            (401, _) => Refusal::Final(Error::job(format!(
                "the schema registry {url} answers 401: {text}. It wants a user and a password, or knows other ones: check what \
                 basic_auth names"
            ))),
            (403, _) => Refusal::Final(Error::job(format!(
                "the schema registry {url} answers 403 to {path}: {text}. The user of basic_auth needs the right to read schemas, and to \
                 write the subject if the job registers its schema"
            ))),
            (408 | 429 | 500.., _) => Refusal::Away(format!("it answers {code}: {text}")),
            _ => self.refused(format!("it answers {code} to {path}: {text}")),
        }
    }

    fn refused(&self, why: String) -> Refusal {
        Refusal::Final(Error::job(format!("the schema registry {} cannot be used: {why}", self.url)))
    }
}

fn roots(settings: &Settings) -> JobResult<RootCerts> {
    let Some(path) = &settings.ca_file else { return Ok(RootCerts::PlatformVerifier) };
    let of_file = || format!("the certificates for the schema registry {}, {}", settings.url, path.display());
    let pem = std::fs::read(path).context(of_file)?;
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(error) => Some(Err(Error::environment(format!("not PEM: {error}")))),
    };
    let all: Vec<Certificate<'static>> =
        parse_pem(&pem).filter_map(certificate).collect::<JobResult<_>>().context(of_file)?;
    if all.is_empty() {
        return Err(Error::environment(format!("{} have no certificate in them", of_file())));
    }
    Ok(all.into_iter().into())
}

/// A part of a path.
fn encoded(part: &str) -> String {
    utf8_percent_encode(part, UNRESERVED).to_string()
}

#[derive(Serialize)]
struct Question<'a> {
    schema: &'a str,
    #[serde(rename = "schemaType", skip_serializing_if = "Option::is_none")]
    schema_type: Option<&'static str>,
}

#[derive(Deserialize)]
struct Answer {
    schema: String,
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
    references: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: i64,
}

#[derive(Deserialize)]
struct Id {
    id: u32,
}

/// What the registry says of an error.
#[derive(Deserialize)]
struct Said {
    error_code: i64,
    message: String,
}
