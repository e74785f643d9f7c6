//! What errors of TLS mean for whoever has configured it.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// Where the documentation says how certificates are made and renewed.
const PAGE: &str = "docs/cluster.md, 'TLS'";

/// Says what is wrong, as the end of a sentence about the other side of a connection.
pub fn explain(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(why) => format!("its certificate is refused: {}", explain_certificate(why)),
        Error::NoCertificatesPresented => {
            "it has no certificate: set tls.certificate and tls.key there, too".to_owned()
        }
        Error::AlertReceived(alert) => explain_alert(*alert),
        Error::InvalidMessage(_) => {
            "it does not speak TLS: set tls.certificate, tls.key and tls.ca there, or leave tls.ca out here"
                .to_owned()
        }
        Error::DecryptError => "what it has sent was changed on its way".to_owned(),
        Error::PeerIncompatible(why) => {
            format!("it cannot speak TLS 1.3 as this side does ({why:?}); use a client that can")
        }
        error => format!("the TLS connection has failed: {error}"),
    }
}

/// What an I/O error of a TLS connection means: its cause by [`explain`], or the error itself.
pub fn explain_io(error: &io::Error) -> String {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) {
        Some(cause) => explain(cause),
        None => error.to_string(),
    }
}

/// What an error of the handshake of TLS means.
pub fn explain_handshake(error: &io::Error) -> String {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock};
    match error.kind() {
        WouldBlock | TimedOut => "it did not answer in time during the handshake of TLS".to_owned(),
        UnexpectedEof | ConnectionReset | BrokenPipe => {
            "it closed the connection during the handshake of TLS; does it use TLS, too?".to_owned()
        }
        _ => explain_io(error),
    }
}

/// A name as the certificate has it: rustls gives `DnsName("host-1")` and `IpAddress(10.0.0.1)`.
fn bare(presented: &str) -> &str {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(presented).trim_matches('"')
}

/// Says what is wrong with a certificate.
pub(crate) fn explain_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "no authority in tls.ca has issued it: all certificates of a cluster are of one CA, and every host and user needs \
             its file"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("it has expired: renew it ({PAGE}), or set the clock of this host")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet: set the clock of this host, or wait".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "it is for {}, and not for {}: make one with that name or address among its alternative names, or set \
             tls.server-name to a name that it has ({PAGE})",
            if presented.is_empty() { "no name".to_owned() } else { presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ") },
            expected.to_str()
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => format!(
            "it must allow both server and client authentication, because daemons are both ({PAGE})"
        ),
        error => error.to_string(),
    }
}

fn explain_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "it wants a certificate of this side: set tls.certificate and tls.key here".to_owned()
        }
        // The last one is that of an authority with the name of another one, such as one that was made again.
        AlertDescription::UnknownCA | AlertDescription::BadCertificate | AlertDescription::DecryptError => {
            "it refuses the certificate of this side: no authority in its tls.ca has issued it; all certificates of a cluster \
             are of one CA"
                .to_owned()
        }
        AlertDescription::CertificateExpired => {
            format!("it refuses the certificate of this side, which has expired: renew it ({PAGE})")
        }
        AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure => {
            "it cannot speak TLS 1.3 as this side does".to_owned()
        }
        alert => format!("it has ended the TLS connection ({alert:?})"),
    }
}
