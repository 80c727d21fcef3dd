//! Greeting: what two processes say before either believes a word of the other.
//!
//! ```text
//!   both --> magic, version of this protocol, a nonce
//!   each --> what it has to say, signed with the token and both nonces
//! ```
//!
//! In:    the bytes received so far.
//! Out:   the nonce and what was said, once all of it is there; or that it is none of ours.
//! State: none. A stranger is given a few thousand bytes, and nobody acts on what is not signed.
//!
//! The token itself is never sent, and what was overheard of one greeting is of no use in another. This file depends on
//! nothing else of `dbb`, so that it is also judged alone, by `mutate`.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::io;

/// What both begin with: a name and the version of this protocol.
const MAGIC: [u8; 16] = *b"dbb-cluster\0\0\0\0\x01";
const NONCE: usize = 32;
const SIGNATURE: usize = 32;
/// Bytes of magic and nonce.
pub(super) const OPENING: usize = MAGIC.len() + NONCE;
/// Most bytes of what is signed, signature included: a hash for each section of a configuration takes some two thousand.
const MOST: usize = 8 << 10;

/// Made up anew for each greeting.
pub(super) type Nonce = [u8; NONCE];

/// Which side has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Connecting = 1,
    Listening = 2,
}

/// What was received so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard<'b> {
    /// At least so many bytes are missing.
    Part(usize),
    /// What is signed, signature first.
    Signed(&'b [u8]),
}

/// What both send first.
pub(super) fn opening(nonce: &Nonce) -> Vec<u8> {
    [&MAGIC[..], nonce].concat()
}

/// The nonce of the other side, once all of its opening is there.
pub(super) fn opened(received: &[u8]) -> io::Result<Option<Nonce>> {
    let magic = &received[..received.len().min(MAGIC.len())];
    if !MAGIC.starts_with(magic) {
        return Err(invalid("it does not speak as a dbb of this version"));
    }
    let nonce = received.get(MAGIC.len()..OPENING);
    Ok(nonce.and_then(|nonce| nonce.try_into().ok()))
}

/// What was `received` behind the opening.
pub(super) fn heard(received: &[u8]) -> io::Result<Heard<'_>> {
    let Some((length, rest)) = received.split_first_chunk() else {
        return Ok(Heard::Part(4 - received.len()));
    };
    let length = u32::from_be_bytes(*length) as usize;
    if !(SIGNATURE..=MOST).contains(&length) {
        return Err(invalid(&format!("a greeting of {length} bytes is none of dbb's")));
    }
    match rest.get(..length) {
        Some(signed) => Ok(Heard::Signed(signed)),
        None => Ok(Heard::Part(length - rest.len())),
    }
}

/// The token and the two nonces of a greeting.
pub(super) struct Proof<'t> {
    pub(super) token: &'t [u8],
    pub(super) connecting: Nonce,
    pub(super) listening: Nonce,
}

impl Proof<'_> {
    fn mac(&self, side: Side, said: &[u8]) -> io::Result<Hmac<Sha256>> {
        let key = Hmac::<Sha256>::new_from_slice(self.token);
        let mut mac = key.map_err(|error| io::Error::other(error.to_string()))?;
        for part in [&[side as u8], &self.connecting[..], &self.listening[..], said] {
            mac.update(part);
        }
        Ok(mac)
    }

    /// What `side` says, as it is sent: length, signature, words.
    pub(super) fn signed(&self, side: Side, said: &[u8]) -> io::Result<Vec<u8>> {
        let signature = self.mac(side, said)?.finalize().into_bytes();
        let length = SIGNATURE + said.len();
        if length > MOST {
            return Err(invalid(&format!("a greeting of {length} bytes is too long")));
        }
        let length = u32::try_from(length).map_err(io::Error::other)?;
        Ok([&length.to_be_bytes(), &signature[..], said].concat())
    }

    /// What `side` said, if it knows the token; `None` from anybody else.
    pub(super) fn verified<'b>(&self, side: Side, signed: &'b [u8]) -> io::Result<Option<&'b [u8]>> {
        let Some((signature, said)) = signed.split_at_checked(SIGNATURE) else {
            return Ok(None);
        };
        // In constant time.
        let checked = self.mac(side, said)?.verify_slice(signature);
        Ok(checked.is_ok().then_some(said))
    }
}

pub(super) fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn proof(token: &[u8]) -> Proof<'_> {
        Proof {
            token,
            connecting: [1; NONCE],
            listening: [2; NONCE],
        }
    }

    #[test]
    fn only_the_whole_of_what_the_right_side_has_signed_is_believed() {
        let sent = proof(b"sesame").signed(Side::Listening, b"words").unwrap();
        for cut in 0..sent.len() {
            assert!(
                matches!(heard(&sent[..cut]).unwrap(), Heard::Part(missing) if missing <= sent.len() - cut)
            );
        }
        let Heard::Signed(signed) = heard(&sent).unwrap() else {
            panic!("it is whole");
        };
        let believed =
            |proof: &Proof<'_>, side, signed| proof.verified(side, signed).unwrap().map(<[u8]>::to_vec);
        assert_eq!(
            believed(&proof(b"sesame"), Side::Listening, signed),
            Some(b"words".to_vec())
        );
        assert_eq!(believed(&proof(b"barley"), Side::Listening, signed), None);
        assert_eq!(believed(&proof(b"sesame"), Side::Connecting, signed), None);
        assert_eq!(believed(&proof(b"sesame"), Side::Listening, &signed[1..]), None);
        let mut other = proof(b"sesame");
        other.connecting = [3; NONCE];
        assert_eq!(believed(&other, Side::Listening, signed), None);
    }

    #[test]
    fn what_is_none_of_ours_is_refused_by_its_first_bytes() {
        assert_eq!(opened(b"dbb-clu").unwrap(), None);
        assert!(opened(b"GET").is_err());
        assert_eq!(opened(&opening(&[7; NONCE])).unwrap(), Some([7; NONCE]));
        for length in [0, 31, 8193, u32::MAX] {
            assert!(heard(&length.to_be_bytes()).is_err(), "{length}");
        }
    }
}
