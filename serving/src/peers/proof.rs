//! Proof: that two processes know the same token, before either believes what the other says of replicas.
//!
//! ```text
//!   asked  --> a nonce
//!   asking --> a nonce, and both signed with the token
//!   asked  --> both signed with the token
//! ```
//!
//! A stranger is given 64 bytes to say. This file depends on nothing else of `dbb`, so that it is also judged alone, by
//! `mutate`.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::io;

pub(super) type Nonce = [u8; 32];
pub(super) type Signature = [u8; 32];
/// What whoever asks says first: its nonce and its proof.
pub(super) type Introduction = [u8; 64];

/// What is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Asking = 1,
    Asked = 2,
    Request = 3,
}

/// The nonces of a connection, and the token.
#[derive(Debug, Clone)]
pub(super) struct Proof<'t> {
    token: &'t [u8],
    asked: Nonce,
    asking: Nonce,
}

impl<'t> Proof<'t> {
    /// Of whoever asks, who was sent the nonce `asked`.
    pub(super) fn asking(token: &'t [u8], asked: Nonce) -> Self {
        let asking = rand::random();
        Self { token, asked, asking }
    }

    /// What whoever asks says first.
    pub(super) fn introduction(&self) -> io::Result<Introduction> {
        let mut introduction = [0; 64];
        let (nonce, proof) = introduction.split_at_mut(32);
        nonce.copy_from_slice(&self.asking);
        proof.copy_from_slice(&self.sign(What::Asking, &[])?);
        Ok(introduction)
    }

    /// Of whoever was asked with `introduction`, after it had sent the nonce `asked`; and whether that proves the token.
    pub(super) fn introduced(
        token: &'t [u8],
        asked: Nonce,
        introduction: &Introduction,
    ) -> io::Result<(Self, bool)> {
        let (asking, proof) = introduction.split_at(32);
        let mut nonce = Nonce::default();
        nonce.copy_from_slice(asking);
        let proven = Self {
            token,
            asked,
            asking: nonce,
        };
        let is_proven = proven.is_signed(What::Asking, &[], proof)?;
        Ok((proven, is_proven))
    }

    /// What whoever was asked proves itself with.
    pub(super) fn answer(&self) -> io::Result<Signature> {
        self.sign(What::Asked, &[])
    }

    /// Whether `answer` is from somebody who knows the token.
    pub(super) fn is_answered(&self, answer: &Signature) -> io::Result<bool> {
        self.is_signed(What::Asked, &[], answer)
    }

    /// The signature of a request.
    pub(super) fn of_request(&self, request: &[u8]) -> io::Result<Signature> {
        self.sign(What::Request, request)
    }

    /// Whether the request is as it was sent.
    pub(super) fn is_requested(&self, request: &[u8], signature: &Signature) -> io::Result<bool> {
        self.is_signed(What::Request, request, signature)
    }

    fn mac(&self, what: What, said: &[u8]) -> io::Result<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.token).map_err(io::Error::other)?;
        for part in [
            &b"dbb-replicas\x02"[..],
            &[what as u8],
            &self.asked,
            &self.asking,
            said,
        ] {
            mac.update(part);
        }
        Ok(mac)
    }

    fn sign(&self, what: What, said: &[u8]) -> io::Result<Signature> {
        Ok(self.mac(what, said)?.finalize().into_bytes().into())
    }

    fn is_signed(&self, what: What, said: &[u8], signature: &[u8]) -> io::Result<bool> {
        // In constant time.
        Ok(self.mac(what, said)?.verify_slice(signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_prove_the_token_and_neither_proof_is_of_use_to_a_stranger() {
        let nonce = [7; 32];
        let asking = Proof::asking(b"sesame", nonce);
        let introduction = asking.introduction().unwrap();
        let (asked, is_proven) = Proof::introduced(b"sesame", nonce, &introduction).unwrap();
        assert!(is_proven && asking.is_answered(&asked.answer().unwrap()).unwrap());
        let request = asking.of_request(b"rows").unwrap();
        assert!(asked.is_requested(b"rows", &request).unwrap());
        assert!(!asked.is_requested(b"more", &request).unwrap());
        let (stranger, is_proven) = Proof::introduced(b"barley", nonce, &introduction).unwrap();
        assert!(!is_proven && !asking.is_answered(&stranger.answer().unwrap()).unwrap());
        // What was overheard, said again or said back.
        assert!(!Proof::introduced(b"sesame", [8; 32], &introduction).unwrap().1);
        let mut back = [0; 32];
        back.copy_from_slice(&introduction[32..]);
        assert!(!asking.is_answered(&back).unwrap());
    }
}
