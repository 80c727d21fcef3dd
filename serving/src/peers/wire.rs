//! Wire: what two processes say to each other about replicas.
//!
//! ```text
//!   both   --> prove the token
//!   asking --> what it wants, signed
//!   asked  --> how many replicas it has as of that epoch; or why not
//!              for a scan, then: Arrow's stream of batches, and after its end how many rows it were
//! ```

use super::proof::{Proof, Signature};
use dbb_operators::Epoch;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};

/// Most bytes of a message that is no rows; only somebody who has proven the token sends one.
const MOST: usize = 1 << 20;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    /// As of which epoch.
    pub(super) epoch: Epoch,
    /// How long to wait for it to be published.
    pub(super) patience_ms: u64,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    /// To keep it until the connection is closed.
    Hold,
    /// Rows.
    Scan {
        projection: Option<Vec<usize>>,
        equal: Vec<(String, String)>,
    },
}

/// The answer, before any rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// It is there, with so many rows.
    Rows(usize),
    /// It is not.
    No(String),
}

fn write_frame(stream: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut message = length.to_be_bytes().to_vec();
    message.extend_from_slice(bytes);
    stream.write_all(&message)
}

fn read_frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MOST {
        return Err(wrong(format!("a message of {length} bytes is none of dbb's")));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn wrong(message: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn read_json<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    serde_json::from_slice(&read_frame(stream)?).map_err(wrong)
}

impl Request {
    /// What is sent, behind the introduction.
    pub(super) fn signed(&self, proof: &Proof<'_>) -> io::Result<Vec<u8>> {
        let message = serde_json::to_vec(self).map_err(wrong)?;
        let mut sent = Vec::new();
        write_frame(&mut sent, &message)?;
        sent.extend(proof.of_request(&message)?);
        Ok(sent)
    }

    /// The request of somebody who has proven the token.
    pub(super) fn receive(proof: &Proof<'_>, stream: &mut impl Read) -> io::Result<Self> {
        let message = read_frame(stream)?;
        let mut signature = Signature::default();
        stream.read_exact(&mut signature)?;
        if !proof.is_requested(&message, &signature)? {
            return Err(wrong("a request that is not as it was sent"));
        }
        serde_json::from_slice(&message).map_err(wrong)
    }
}

impl Reply {
    pub(super) fn send(&self, stream: &mut impl Write) -> io::Result<()> {
        write_frame(stream, &serde_json::to_vec(self).map_err(wrong)?)
    }

    pub(super) fn receive(stream: &mut impl Read) -> io::Result<Self> {
        read_json(stream)
    }
}
