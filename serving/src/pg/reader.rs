//! Reader: a client's messages, one at a time, judged and then decoded.
//!
//! In:    bytes, as they come.
//! Out:   messages; or what is wrong with one, after which nothing can be read any more.
//! State: the bytes of the message under way: never more memory than four times what has come of it, nor than the longest
//!        message may have.

use super::{
    connection::Socket,
    frames::{Fault, Judged, Stage, judge},
};
use bytes::{BufMut, BytesMut};
use pgwire::{
    api::{ClientInfo, PgWireConnectionState},
    error::PgWireError,
    messages::PgWireFrontendMessage,
};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::codec::Decoder;

/// Bytes that are read at once where it is not known how many will come.
const CHUNK: usize = 8 << 10;

/// See the module.
pub(super) struct Reader {
    received: BytesMut,
    /// Most bytes of one message.
    most: usize,
    /// Messages with passwords so far.
    passwords: usize,
}

/// Why there is no next message.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error(transparent)]
    Broken(#[from] io::Error),
    #[error("{0}")]
    Fault(#[from] Fault),
    /// Well-formed, and still not understood.
    #[error(transparent)]
    Decoded(#[from] PgWireError),
}

impl Reader {
    /// Of messages of at most `most` bytes, once somebody has logged in.
    pub(super) fn new(most: usize) -> Self {
        Self {
            received: BytesMut::new(),
            most,
            passwords: 0,
        }
    }

    /// The next message, `None` when the client has gone. Nothing is lost when it is not waited for to its end.
    pub(super) async fn next(
        &mut self,
        socket: &mut Socket,
    ) -> Result<Option<PgWireFrontendMessage>, Unreadable> {
        let stage = match socket.state() {
            PgWireConnectionState::AwaitingSslRequest | PgWireConnectionState::AwaitingStartup => {
                Stage::Startup
            }
            PgWireConnectionState::AuthenticationInProgress if self.passwords == 0 => Stage::Mechanism,
            PgWireConnectionState::AuthenticationInProgress => Stage::Proof,
            _ => Stage::Ready(self.most),
        };
        let Some(length) = self.whole(socket.get_mut(), stage).await? else {
            return Ok(None);
        };
        let mut frame = self.taken(length);
        if frame.first() == Some(&b'p') && stage == Stage::Mechanism {
            self.passwords += 1;
        }
        match socket.codec_mut().decode(&mut frame)? {
            Some(message) => Ok(Some(message)),
            None => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        }
    }

    /// How long the first message is, once all of it is there.
    pub(super) async fn whole<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        stage: Stage,
    ) -> Result<Option<usize>, Unreadable> {
        loop {
            let least = match judge(&self.received, stage)? {
                Judged::Whole(length) => return Ok(Some(length)),
                Judged::Part(least) => least,
            };
            // Before it is known whether encryption follows, not a byte of it may be taken for plain text.
            let wanted = match stage {
                Stage::Startup => least - self.received.len(),
                _ => (least - self.received.len()).max(CHUNK),
            };
            self.make_room(wanted);
            if stream.read_buf(&mut (&mut self.received).limit(wanted)).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The first message, which has `length` bytes, and stays.
    pub(super) fn first(&self, length: usize) -> &[u8] {
        self.received.get(..length).unwrap_or_default()
    }

    /// The first message, which has `length` bytes.
    pub(super) fn taken(&mut self, length: usize) -> BytesMut {
        let frame = self.received.split_to(length);
        if self.received.is_empty() {
            // Otherwise what is over keeps the memory of the message for as long as the client is silent.
            self.received = BytesMut::new();
        }
        frame
    }

    /// Takes memory for `wanted` more bytes, or for four times what is there.
    fn make_room(&mut self, wanted: usize) {
        let free = self.received.capacity() - self.received.len();
        if free >= wanted.min(CHUNK) {
            return;
        }
        let room = wanted.min(CHUNK.max(self.received.len() * 3));
        let mut larger = BytesMut::with_capacity(self.received.len() + room);
        larger.extend_from_slice(&self.received);
        self.received = larger;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_follows_what_has_come_and_not_what_is_declared() {
        let most = 1 << 20;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut message = b"Q\x00\x08\x00\x00".to_vec();
        message.resize(1 + (8 << 16) - 1, b' ');
        message.push(0);
        for come in [5, 100, 10_000, 100_000, message.len() - 1] {
            let mut reader = Reader::new(most);
            let mut bytes = &message[..come];
            assert!(
                runtime
                    .block_on(reader.whole(&mut bytes, Stage::Ready(most)))
                    .unwrap()
                    .is_none()
            );
            let taken = reader.received.capacity();
            assert!(
                taken <= (come * 4).max(2 * CHUNK) && taken <= message.len() + CHUNK,
                "{come}: {taken}"
            );
        }
        let mut reader = Reader::new(most);
        let mut bytes = &message[..];
        let length = runtime
            .block_on(reader.whole(&mut bytes, Stage::Ready(most)))
            .unwrap()
            .unwrap();
        assert_eq!(reader.taken(length), message);
        assert_eq!(reader.received.capacity(), 0);
    }

    #[test]
    fn nothing_is_read_beyond_a_wish_for_encryption() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut reader = Reader::new(1 << 20);
        let mut bytes = &b"\x00\x00\x00\x08\x04\xd2\x16\x2fand what is secret"[..];
        let length = runtime
            .block_on(reader.whole(&mut bytes, Stage::Startup))
            .unwrap();
        assert_eq!((length, bytes), (Some(8), &b"and what is secret"[..]));
    }
}
