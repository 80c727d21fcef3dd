//! The handshake: two processes prove to each other that they belong together.
//!
//! ```text
//!   both        --> magic, version of this protocol, a nonce
//!   connecting  --> who it is and what it is set to, signed with the token and both nonces
//!   listening   --> the same of its own; or that the token is another
//! ```
//!
//! Everything is bounded in size and time. Only what is signed with the token can be a misfit, which ends a start; all else
//! comes from somebody who is none of ours. What follows on the connection is neither signed nor secret.

use super::{
    ClusterError, frame,
    greeting::{self, Heard, Nonce, OPENING, Proof, Side, invalid},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::TcpStream,
    time::{Duration, Instant},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest that a handshake may take: a stranger who says nothing is not waited for.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

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
    /// It speaks as we do but does not prove the token.
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

/// Speaks first, to process `expected`, which listens at `address`.
pub(super) fn connecting(
    mut stream: &TcpStream,
    ours: &Hello,
    token: &[u8],
    expected: usize,
    address: &str,
) -> Result<(), Failed> {
    let deadline = Instant::now() + LIMIT;
    stream.set_write_timeout(Some(LIMIT))?;
    let mine: Nonce = rand::random();
    stream.write_all(&greeting::opening(&mine))?;
    let mut opening = [0; OPENING];
    frame::read_exact(stream, &mut opening, deadline)?;
    let proof = Proof {
        token,
        connecting: mine,
        listening: greeting::opened(&opening)?.ok_or_else(|| invalid("an opening that is too short"))?,
    };
    stream.write_all(&proof.signed(Side::Connecting, &json(ours)?)?)?;
    let mut received = Vec::new();
    while let Heard::Part(missing) = greeting::heard(&received)? {
        let had = received.len();
        received.resize(had + missing, 0);
        frame::read_exact(stream, &mut received[had..], deadline)?;
    }
    // An answer that the token is another proves nothing: whoever relays our greeting and spoils it gets one signed.
    let Answer::Hello(hello) = parsed(said(&proof, Side::Listening, &received)?)? else {
        return Err(Failed::Token);
    };
    if hello.process != expected {
        // Nor is it certain that this is where it listens.
        return Err(invalid(&format!("process {} answers there", hello.process)).into());
    }
    fits(ours, &hello, address).map_err(Failed::Misfit)
}

/// Answers whoever has connected: which process it is, and what for. Its time is for the caller to limit.
pub(super) async fn listening<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    ours: &Hello,
    token: &[u8],
    addresses: &[String],
) -> Result<Hello, Failed> {
    let mine: Nonce = rand::random();
    stream.write_all(&greeting::opening(&mine)).await?;
    let mut received = Vec::new();
    let theirs = loop {
        if let Some(nonce) = greeting::opened(&received)? {
            break nonce;
        }
        more(stream, &mut received, OPENING).await?;
    };
    let proof = Proof {
        token,
        connecting: theirs,
        listening: mine,
    };
    received.clear();
    while let Heard::Part(missing) = greeting::heard(&received)? {
        let whole = received.len() + missing;
        more(stream, &mut received, whole).await?;
    }
    let said = match said(&proof, Side::Connecting, &received) {
        Ok(said) => said,
        Err(failed) => {
            // Signed with our token, so that whoever has another cannot tell; it will see that it differs.
            let answer = proof.signed(Side::Listening, &json(&Answer::OtherToken)?)?;
            stream.write_all(&answer).await?;
            return Err(failed);
        }
    };
    let hello: Hello = parsed(said)?;
    let ours = Hello {
        kind: hello.kind,
        ..ours.clone()
    };
    let answer = json(&Answer::Hello(ours.clone()))?;
    stream.write_all(&proof.signed(Side::Listening, &answer)?).await?;
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

/// Reads until there are `whole` bytes, and not one more: what follows is not ours to read.
async fn more<S: AsyncRead + Unpin>(stream: &mut S, received: &mut Vec<u8>, whole: usize) -> io::Result<()> {
    let missing = whole.saturating_sub(received.len()) as u64;
    match stream.take(missing).read_buf(received).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// What `side` said, if it knows the token.
fn said<'b>(proof: &Proof<'_>, side: Side, received: &'b [u8]) -> Result<&'b [u8], Failed> {
    match greeting::heard(received)? {
        Heard::Signed(signed) => proof.verified(side, signed)?.ok_or(Failed::Token),
        Heard::Part(_) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
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
