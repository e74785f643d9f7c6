//! Certificates, and the configurations that are made of them.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig};
use tidegate_protocol::process::TlsFiles;
use tidegate_protocol::{Error, Result};

use crate::explain::explain_certificate;
use crate::pem::{self, wrong};
use crate::stream::Stream;

/// What a daemon or a job process has for TLS, read from its files.
#[derive(Clone, Debug)]
pub struct Tls {
    connector: Connector,
    authorities: Arc<RootCertStore>,
    certificates: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

/// What whoever connects has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Nothing.
    Anybody,
    /// A certificate, if it has one.
    MayShow,
    /// A certificate.
    MustShow,
}

/// Makes connections with TLS.
#[derive(Clone, Debug)]
pub struct Connector {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
}

/// Accepts connections with TLS.
#[derive(Clone, Debug)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the files, and checks that they belong together.
    ///
    /// # Errors
    /// If a file cannot be read or has something else in it; if the key is not that of the certificate; if the authorities
    /// have not issued the certificate, or it has expired.
    pub fn load(files: &TlsFiles) -> Result<Self> {
        let certificates = pem::certificates("tls.certificate", &files.certificate)?;
        let key = pem::private_key(&files.key)?;
        let authorities = pem::authorities(&files.ca)?;
        let authorities = Arc::new(authorities);
        let verifier = verifier_of_clients(&authorities, Clients::MustShow)?;
        let verified = verifier.verify_client_cert(&certificates[0], &certificates[1..], UnixTime::now());
        verified.map_err(|error| {
            let why = match &error {
                rustls::Error::InvalidCertificate(why) => explain_certificate(why),
                error => error.to_string(),
            };
            wrong("tls.certificate", &files.certificate, &why)
        })?;
        let client = builder(ClientConfig::builder_with_provider(provider()))?
            .with_root_certificates(authorities.clone())
            .with_client_auth_cert(certificates.clone(), key.clone_key());
        let client = client.map_err(|error| {
            let (key, certificate) = (files.key.display(), files.certificate.display());
            Error::environment(format!(
                "the key {key} of tls.key cannot be used with the certificate {certificate} of tls.certificate; are both of \
                 the same host?"
            ))
            .caused_by(error)
        })?;
        let connector = Connector::new(client, files.server_name.clone());
        Ok(Self { connector, authorities, certificates, key: Arc::new(key) })
    }

    /// Makes connections that show the certificate, if they are asked to.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Accepts connections with the certificate.
    ///
    /// # Errors
    /// Never for files that were loaded.
    pub fn acceptor(&self, clients: Clients) -> Result<Acceptor> {
        let builder = builder(ServerConfig::builder_with_provider(provider()))?;
        let builder = match clients {
            Clients::Anybody => builder.with_no_client_auth(),
            clients => builder.with_client_cert_verifier(verifier_of_clients(&self.authorities, clients)?),
        };
        let mut config = builder
            .with_single_cert(self.certificates.clone(), self.key.clone_key())
            .map_err(|e| Error::internal("a certificate that was accepted is refused").caused_by(e))?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Acceptor { config: Arc::new(config) })
    }
}

impl Connector {
    /// Believes whoever has a certificate of the authorities in this file, and shows none itself. The certificate must have
    /// this name; without one, the host of the address that is connected to.
    ///
    /// # Errors
    /// If the file cannot be read, or has something else in it.
    pub fn believing(ca: &Path, server_name: Option<String>) -> Result<Self> {
        let builder = builder(ClientConfig::builder_with_provider(provider()))?;
        let config = builder.with_root_certificates(pem::authorities(ca)?).with_no_client_auth();
        Ok(Self::new(config, server_name))
    }

    fn new(mut config: ClientConfig, server_name: Option<String>) -> Self {
        config.resumption = Resumption::disabled();
        Self { config: Arc::new(config), server_name }
    }

    /// The configuration, for connections that are not made here.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// The name that a certificate must have, of whoever is connected to at `host:port`.
    ///
    /// # Errors
    /// If it is neither a name nor an IP address.
    pub fn name(&self, address: &str) -> Result<ServerName<'static>> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        ServerName::try_from(name.clone()).map_err(|_| {
            Error::environment(format!(
                "'{name}' is neither a host's name nor an IP address, as a certificate has it"
            ))
        })
    }

    /// Goes through the handshake with whoever was connected to at `host:port`. It ends at `until`, and so does everything
    /// that is done with the stream before [`Stream::set_deadline`] is called.
    ///
    /// # Errors
    /// What is wrong with the other side or its certificate; that time is up.
    pub fn connect(&self, tcp: TcpStream, address: &str, until: Instant) -> Result<Stream> {
        Stream::connect(tcp, self.config(), self.name(address)?, until)
    }
}

impl Acceptor {
    /// The configuration, for connections that are not accepted here.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }
}

fn verifier_of_clients(
    authorities: &Arc<RootCertStore>,
    clients: Clients,
) -> Result<Arc<dyn ClientCertVerifier>> {
    let builder = WebPkiClientVerifier::builder_with_provider(authorities.clone(), provider());
    let builder = if clients == Clients::MustShow { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|e| Error::internal("authorities that were accepted are refused").caused_by(e))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// With one version, as both sides of most connections are Tidegate's.
fn builder<Side: rustls::ConfigSide>(
    builder: ConfigBuilder<Side, rustls::WantsVersions>,
) -> Result<ConfigBuilder<Side, rustls::WantsVerifier>> {
    let version = builder.with_protocol_versions(&[&TLS13]);
    version.map_err(|e| Error::internal("ring does not have TLS 1.3").caused_by(e))
}
