//! The backend that let a connection in: the number in `BackendKeyData`, which a pooler makes up.
//!
//! The client keeps it to cancel statements, and tells nobody. So it is asked to cancel one, to a server that is here.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio_postgres::{
    Client,
    tls::{ChannelBinding, TlsConnect, TlsStream},
};

/// The yes of a server that is asked for TLS.
const YES: &[u8] = b"S";
/// A request for TLS, and one to cancel: length, code, process, secret.
const MOST: usize = 8 + 16;

/// The number by which the backend called itself; `None` if it told none.
pub(crate) async fn greeted_by(client: &Client) -> io::Result<Option<i32>> {
    let (here, mut server) = duplex(64);
    server.write_all(YES).await?;
    let cancelled = client.cancel_token().cancel_query_raw(here, Plain).await;
    cancelled.map_err(io::Error::other)?;
    let mut said = Vec::with_capacity(MOST);
    server.read_to_end(&mut said).await?;
    // The secret comes last.
    let number = said.len().checked_sub(8).and_then(|at| said.get(at..at + 4));
    let number = number.and_then(|bytes| Some(i32::from_be_bytes(bytes.try_into().ok()?)));
    Ok(number.filter(|number| *number != 0))
}

/// What is in place of TLS between two ends in one process.
struct Plain;

impl TlsConnect<DuplexStream> for Plain {
    type Stream = Unencrypted;
    type Error = Infallible;
    type Future = Ready<Result<Unencrypted, Infallible>>;

    fn connect(self, stream: DuplexStream) -> Self::Future {
        ready(Ok(Unencrypted(stream)))
    }
}

struct Unencrypted(DuplexStream);

impl TlsStream for Unencrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Unencrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, to)
    }
}

impl AsyncWrite for Unencrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
