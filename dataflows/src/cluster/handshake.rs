//! The handshake: two processes prove to each other that they belong together.
//!
//! ```text
//!   both        --> magic, version of this protocol, a nonce
//!   connecting  --> who it is and what it is set to, signed with the token and both nonces
//!   listening   --> the same of its own; or that the token is another
//! ```
//!
//! The token itself is never sent, and what was overheard of one handshake is of no use in another. Everything is
//! bounded in size and time. What follows on the connection is neither signed nor secret.

use super::{ClusterError, frame};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// Longest that a handshake may take: a stranger who says nothing is not waited for.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// What both begin with: a name and the version of this protocol.
const MAGIC: [u8; 16] = *b"dbb-cluster\0\0\0\0\x01";
const NONCE: usize = 32;
const SIGNATURE: usize = 32;

/// What a connection between two processes is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// What the dataflows of the two exchange.
    Data,
    /// What the processes tell each other.
    Words,
}

/// What a process says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) kind: Kind,
    pub(super) process: usize,
    /// The version of `dbb`.
    pub(super) version: String,
    /// A hash of each thing that must be the same for all, by its name.
    pub(super) settings: BTreeMap<String, String>,
}

/// What the listening side answers.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Hello(Hello),
    OtherToken,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// Whoever is there may be none of ours, or is not ready.
    #[error("{0}")]
    Stray(#[from] io::Error),
    /// It speaks as we do but does not know the token.
    #[error("its token is another")]
    Token,
    /// It knows the token, and does not fit.
    #[error(transparent)]
    Misfit(ClusterError),
}

/// The hash by which two processes compare a setting; it tells nothing to who does not know the token.
pub(super) fn hash(token: &[u8], text: &[u8]) -> String {
    let digest = Sha256::new()
        .chain_update(Sha256::digest(token))
        .chain_update(text)
        .finalize();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The two nonces of a handshake, and the token.
struct Proof<'t> {
    token: &'t [u8],
    connecting: [u8; NONCE],
    listening: [u8; NONCE],
}

impl Proof<'_> {
    fn mac(&self, side: u8, said: &[u8]) -> Result<Hmac<Sha256>, io::Error> {
        let key = Hmac::<Sha256>::new_from_slice(self.token);
        let mut mac = key.map_err(|error| io::Error::other(error.to_string()))?;
        for part in [&[side], &self.connecting[..], &self.listening[..], said] {
            mac.update(part);
        }
        Ok(mac)
    }

    fn sign(&self, side: u8, said: &[u8]) -> Result<Vec<u8>, io::Error> {
        let signature = self.mac(side, said)?.finalize().into_bytes();
        Ok([&signature[..], said].concat())
    }

    /// What was said, if whoever said it knows the token.
    fn verified<'b>(&self, side: u8, signed: &'b [u8]) -> Result<&'b [u8], Failed> {
        let (signature, said) = signed
            .split_at_checked(SIGNATURE)
            .ok_or_else(|| invalid("a message without a signature"))?;
        // In constant time.
        let checked = self.mac(side, said)?.verify_slice(signature);
        checked.map(|()| said).map_err(|_| Failed::Token)
    }
}

const CONNECTING: u8 = 1;
const LISTENING: u8 = 2;

/// Speaks first, to process `expected`, which listens at `address`.
pub(super) fn connecting(
    stream: &TcpStream,
    ours: &Hello,
    token: &[u8],
    expected: usize,
    address: &str,
) -> Result<(), Failed> {
    let deadline = Instant::now() + LIMIT;
    let (mine, theirs) = nonces(stream, deadline)?;
    let proof = Proof {
        token,
        connecting: mine,
        listening: theirs,
    };
    frame::write(stream, &proof.sign(CONNECTING, &json(ours)?)?)?;
    let signed = frame::read(stream, deadline)?;
    let answer: Answer = parsed(proof.verified(LISTENING, &signed)?)?;
    let Answer::Hello(hello) = answer else {
        return Err(Failed::Token);
    };
    if hello.process != expected {
        return Err(Failed::Misfit(ClusterError::Differs {
            process: expected,
            address: address.to_owned(),
            what: format!("who is there: process {} answers at this address", hello.process),
        }));
    }
    fits(ours, &hello, address).map_err(Failed::Misfit)
}

/// Answers whoever has connected: which process it is, and what for.
pub(super) fn listening(
    stream: &TcpStream,
    ours: &Hello,
    token: &[u8],
    addresses: &[String],
) -> Result<Hello, Failed> {
    let deadline = Instant::now() + LIMIT;
    let (mine, theirs) = nonces(stream, deadline)?;
    let proof = Proof {
        token,
        connecting: theirs,
        listening: mine,
    };
    let signed = frame::read(stream, deadline)?;
    let said = match proof.verified(CONNECTING, &signed) {
        Ok(said) => said,
        Err(failed) => {
            // Signed with our token, so that whoever has another cannot tell; it will see that it differs.
            frame::write(stream, &proof.sign(LISTENING, &json(&Answer::OtherToken)?)?)?;
            return Err(failed);
        }
    };
    let hello: Hello = parsed(said)?;
    let ours = Hello {
        kind: hello.kind,
        ..ours.clone()
    };
    let answer = json(&Answer::Hello(ours.clone()))?;
    frame::write(stream, &proof.sign(LISTENING, &answer)?)?;
    let address = addresses.get(hello.process).map_or("", String::as_str);
    fits(&ours, &hello, address).map_err(Failed::Misfit)?;
    if hello.process <= ours.process || hello.process >= addresses.len() {
        return Err(Failed::Misfit(ClusterError::Differs {
            process: hello.process,
            address: address.to_owned(),
            what: "the order of the processes".into(),
        }));
    }
    Ok(hello)
}

/// Sends our magic and nonce, and reads theirs.
fn nonces(mut stream: &TcpStream, deadline: Instant) -> Result<([u8; NONCE], [u8; NONCE]), Failed> {
    let mine: [u8; NONCE] = rand::random();
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(&[&MAGIC[..], &mine[..]].concat())?;
    let (mut magic, mut theirs) = ([0; MAGIC.len()], [0; NONCE]);
    frame::read_exact(stream, &mut magic, deadline)?;
    if magic != MAGIC {
        return Err(invalid("it does not speak as a dbb of this version").into());
    }
    frame::read_exact(stream, &mut theirs, deadline)?;
    Ok((mine, theirs))
}

/// Whether the two may work together.
fn fits(ours: &Hello, theirs: &Hello, address: &str) -> Result<(), ClusterError> {
    let (process, address) = (theirs.process, address.to_owned());
    if ours.version != theirs.version {
        return Err(ClusterError::Version {
            process,
            address,
            theirs: theirs.version.clone(),
            ours: ours.version.clone(),
        });
    }
    let names = ours.settings.keys().chain(theirs.settings.keys());
    let mut differ: Vec<_> = names
        .filter(|name| ours.settings.get(*name) != theirs.settings.get(*name))
        .map(|name| format!("`{name}`"))
        .collect();
    differ.sort();
    differ.dedup();
    if differ.is_empty() {
        return Ok(());
    }
    Err(ClusterError::Differs {
        process,
        address,
        what: differ.join(", "),
    })
}

fn json(said: &impl Serialize) -> Result<Vec<u8>, io::Error> {
    serde_json::to_vec(said).map_err(io::Error::other)
}

fn parsed<'b, T: Deserialize<'b>>(said: &'b [u8]) -> Result<T, Failed> {
    serde_json::from_slice(said).map_err(|error| invalid(&error.to_string()).into())
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
