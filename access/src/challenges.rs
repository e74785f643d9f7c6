//! The server's side of signed requests: it issues challenges, and verifies what is signed with them.
//!
//! A challenge is `<issue time in ms>.<random>.<mac>`. The mac is made with a key that only this run of the server has, so
//! the server recognizes its challenges without remembering them, and a challenge from before a restart is refused like an
//! expired one. Only a request that is signed with the secret makes the server remember anything: a stranger cannot fill
//! its memory.
//!
//! Not here: a clock. The time since the server's start comes in with every call.

use std::fmt;
use std::time::Duration;

use crate::request::{Authorization, Proof};
use crate::used_counters::{ChallengeId, UsedCounters};
use crate::{Secret, hex, random};

/// How long a challenge can be used.
const VALID_MS: u64 = 60_000;

/// The challenges of a server, and which of their counters were used.
#[derive(Debug)]
pub struct Challenges {
    secret: Secret,
    key: Secret,
    used: UsedCounters,
}

/// A request whose header is signed with the secret. Of its body nothing is known but what the client says.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// For the response.
    pub proof: Proof,
    /// The SHA-256 that the body must have: one with another was changed on its way, and must not be processed.
    pub body_sha256: [u8; 32],
}

/// Why a request is refused. The display is for the user of the client, and can be sent to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no `Authorization` header, or an empty one.
    Missing,
    /// The header cannot be parsed.
    Malformed,
    /// The challenge is too old, or not of this run of the server: the client repeats the request with a new one.
    Expired,
    /// The counter was used before, or is 64 or more below the highest one of the challenge.
    Replayed,
    /// The request is not signed with the secret, or was changed after that.
    Wrong,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the request is not signed: sign it with a challenge and the secret of this cluster",
            Self::Malformed => "the Authorization header is not as a client of Tidegate writes it",
            Self::Expired => "the challenge is older than a minute, or from before a restart: ask for a new one",
            Self::Replayed => "the counter of the request was used before, or is 64 or more below the highest",
            Self::Wrong => {
                "the request is not signed with the secret of this cluster, or was changed on its way: check that \
                 client and server have the same secret"
            }
        })
    }
}

impl std::error::Error for Refused {}

impl Challenges {
    /// For requests that are signed with `secret`. The key must be a new one at every start of the server, from
    /// [`Secret::generate`]: the counters that were used before the start are forgotten, so challenges from before it must be
    /// invalid.
    pub fn new(secret: Secret, key: Secret) -> Self {
        Self { secret, key, used: UsedCounters::default() }
    }

    /// A new challenge, valid for 60 s. `now` is the time since the start of the server, of a clock that does not go back.
    pub fn challenge(&self, now: Duration) -> String {
        let id = format!("{:016x}.{}", ms(now), hex::encode(&random::bytes::<16>()));
        let mac = hex::encode(&self.key.mac("challenge", &[id.as_bytes()]));
        format!("{id}.{mac}")
    }

    /// Verifies the value of a request's `Authorization` header (empty if there is none) and notes its counter as used. The
    /// body is not needed for that: the caller reads it afterwards, and compares its hash with the one that is returned.
    ///
    /// # Errors
    /// The reason why the request must not be processed. If it is [`Refused::Missing`] or [`Refused::Expired`], the response
    /// should contain a new challenge.
    pub fn verify(
        &mut self,
        now: Duration,
        authorization: &str,
        method: &str,
        target: &str,
    ) -> Result<Accepted, Refused> {
        if authorization.is_empty() {
            return Err(Refused::Missing);
        }
        let authorization = Authorization::parse(authorization).ok_or(Refused::Malformed)?;
        self.used.forget_before(ms(now).saturating_sub(VALID_MS));
        let id = self.own(authorization.challenge).filter(|id| self.used.is_accepted(id));
        let id = id.ok_or(Refused::Expired)?;
        if !authorization.is_signed_with(&self.secret, method, target) {
            return Err(Refused::Wrong);
        }
        self.used.take(id, authorization.counter)?;
        let proof = authorization.proof(&self.secret);
        Ok(Accepted { proof, body_sha256: authorization.body_sha256 })
    }

    /// The identity of a challenge, if this run of the server has issued it.
    fn own(&self, challenge: &str) -> Option<ChallengeId> {
        let (id, mac) = challenge.rsplit_once('.')?;
        let (issued_ms, random) = id.split_once('.')?;
        let issued_ms = u64::from_be_bytes(hex::decode(issued_ms)?);
        let parsed = ChallengeId { issued_ms, random: hex::decode(random)? };
        self.key.check("challenge", &[id.as_bytes()], &hex::decode::<32>(mac)?).then_some(parsed)
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Request;

    const AT: Duration = Duration::from_secs(1000);

    fn secret() -> Secret {
        Secret::of(b"0123456789abcdef").unwrap()
    }

    fn server() -> Challenges {
        Challenges::new(secret(), Secret::generate())
    }

    fn request() -> Request<'static> {
        Request::of("POST", "/jobs?name=a", b"body")
    }

    /// Has the header of that request verified.
    fn verify(server: &mut Challenges, now: Duration, header: &str) -> Result<(), Refused> {
        let accepted = server.verify(now, header, request().method, request().target)?;
        assert_eq!(accepted.body_sha256, request().body_sha256);
        Ok(())
    }

    #[test]
    fn every_counter_of_a_challenge_is_accepted_once_in_any_order() {
        let mut server = server();
        let (challenge, another) = (server.challenge(AT), server.challenge(AT));
        let mut take = |challenge: &str, counter| {
            let header = request().sign(&secret(), challenge, counter, "n");
            verify(&mut server, AT, &header)
        };
        for counter in [3, 1, 2, 100, 99, 37] {
            assert_eq!(take(&challenge, counter), Ok(()));
            assert_eq!(take(&challenge, counter), Err(Refused::Replayed));
        }
        assert_eq!(take(&challenge, 36), Err(Refused::Replayed), "below the window");
        assert_eq!(take(&challenge, 163), Ok(()));
        assert_eq!(take(&challenge, 163 - 62), Ok(()));
        assert_eq!(take(&challenge, 163 - 63), Err(Refused::Replayed));
        assert_eq!(take(&another, 36), Ok(()));
    }

    #[test]
    fn a_challenge_is_valid_for_a_minute_and_one_run_of_the_server() {
        let (mut server, mut restarted) = (server(), server());
        let challenge = server.challenge(AT);
        let mut counter = 0;
        let mut ask = |server: &mut Challenges, secret: &Secret, after_ms| {
            counter += 1;
            let header = request().sign(secret, &challenge, counter, "n");
            verify(server, AT + Duration::from_millis(after_ms), &header)
        };
        assert_eq!(ask(&mut server, &secret(), 0), Ok(()));
        assert_eq!(ask(&mut server, &secret(), 60_000), Ok(()));
        assert_eq!(ask(&mut server, &secret(), 60_001), Err(Refused::Expired));
        assert_eq!(ask(&mut server, &secret(), 60_000), Err(Refused::Expired), "time does not go back");
        assert_eq!(ask(&mut restarted, &secret(), 0), Err(Refused::Expired));
        assert_eq!(ask(&mut restarted, &Secret::generate(), 0), Err(Refused::Expired));
    }

    #[test]
    fn a_request_with_another_secret_or_changed_on_its_way_is_refused_and_not_remembered() {
        let mut server = server();
        let challenge = server.challenge(AT);
        let header = request().sign(&secret(), &challenge, 1, "n");
        for (method, target) in [("GET", "/jobs?name=a"), ("POST", "/jobs?name=b"), ("POST/", "jobs?name=a")]
        {
            assert_eq!(server.verify(AT, &header, method, target).map(drop), Err(Refused::Wrong));
        }
        let announced = |request: &Request<'_>| hex::encode(&request.body_sha256);
        let another_body = Request::of("POST", "/jobs?name=a", b"bodx");
        let changed = header.replace(&announced(&request()), &announced(&another_body));
        assert_eq!(verify(&mut server, AT, &changed), Err(Refused::Wrong));
        let other = request().sign(&Secret::generate(), &challenge, 1, "n");
        assert_eq!(verify(&mut server, AT, &other), Err(Refused::Wrong));
        assert_eq!(verify(&mut server, AT, ""), Err(Refused::Missing));
        assert_eq!(verify(&mut server, AT, "Basic dTpw"), Err(Refused::Malformed));
        assert_eq!(verify(&mut server, AT, &format!("{header} ")), Err(Refused::Malformed));
        let without_body = header.replace(&format!("body={},", announced(&request())), "");
        assert_eq!(verify(&mut server, AT, &without_body), Err(Refused::Malformed));
        assert_eq!(verify(&mut server, AT, &header), Ok(()), "none of them has used the counter");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_header_and_any_challenge_is_refused(
            text in ".{0,200}", parts in prop::collection::vec("[0-9a-f]{0,70}|.{0,3}", 0..5), now in any::<Duration>()
        ) {
            let (mut server, parts) = (server(), parts.join("."));
            prop_assert!(server.own(&text).is_none() && server.own(&parts).is_none());
            prop_assert!(verify(&mut server, now, &text).is_err());
            let fields = format!("Tidegate challenge={parts},counter={},nonce=n,body={text},mac={text}", now.as_secs());
            prop_assert!(verify(&mut server, now, &fields).is_err());
            let signed = request().sign(&secret(), &parts, 1, "n");
            prop_assert!(verify(&mut server, now, &signed).is_err());
        }
    }
}
