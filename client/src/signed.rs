//! The signature of one request, and the check of the proof in its response.

use tidegate_access::{Request, Secret, new_nonce, verify_proof};
use tidegate_protocol::{Error, Result};

/// The response header with the jobmanager's proof that it has the secret.
pub const PROOF_HEADER: &str = "Tidegate-Proof";

/// A challenge of a jobmanager, and how many requests were signed with it.
#[derive(Clone, Debug)]
pub(crate) struct Challenge {
    text: String,
    counter: u64,
}

impl Challenge {
    pub(crate) fn new(text: String) -> Self {
        Self { text, counter: 0 }
    }

    /// Signs a request to the jobmanager that has issued the challenge.
    pub(crate) fn sign(&mut self, secret: &Secret, address: &str, request: &Request<'_>) -> Signed {
        self.counter += 1;
        let nonce = new_nonce();
        Signed {
            address: address.to_owned(),
            authorization: request.sign(secret, &self.text, self.counter, &nonce),
            secret: secret.clone(),
            challenge: self.text.clone(),
            counter: self.counter,
            nonce,
        }
    }
}

/// The signature of one request.
#[derive(Clone, Debug)]
pub struct Signed {
    address: String,
    authorization: String,
    secret: Secret,
    challenge: String,
    counter: u64,
    nonce: String,
}

impl Signed {
    /// The jobmanager that the request is for, as `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The value of the request's `Authorization` header.
    pub fn authorization(&self) -> &str {
        &self.authorization
    }

    /// Checks the [`PROOF_HEADER`] of the response, before anything else of the response is used.
    ///
    /// # Errors
    /// An error of the environment: who has answered does not have the secret.
    pub fn verify(&self, proof: Option<&str>) -> Result<()> {
        let Self { secret, challenge, counter, nonce, .. } = self;
        let proof = proof.unwrap_or_default();
        verify_proof(secret, challenge, *counter, nonce, proof).map_err(|_| {
            Error::environment(format!("who answers at {} does not have the cluster secret", self.address))
        })
    }
}
