//! The first bytes of a connection: whether what follows is encrypted.
//!
//! ```text
//!   a TLS greeting        --> encrypted, if the client names the protocol
//!   a wish for TLS        --> `S`, encrypted; or `N`, where there is no certificate
//!   a wish for GSSAPI     --> `N`
//!   anything else         --> is the first message
//! ```
//!
//! Each wish once. What a client sends in plain text after its wish was granted is never taken for something encrypted.

use super::{
    connection::Socket,
    frames::{Fault, Stage},
    reader::{Reader, Unreadable},
};
use bytes::BytesMut;
use pgwire::{
    api::{ClientInfo, DefaultClient, PgWireConnectionState},
    error::ErrorInfo,
    messages::PgWireBackendMessage,
    tokio::server::{MaybeTls, PgWireMessageServerCodec},
};
use std::io;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::codec::Framed;

/// What the first byte of a TLS greeting is.
const TLS_HANDSHAKE: u8 = 0x16;
/// The wishes, behind the length.
const SSL: &[u8] = &80_877_103u32.to_be_bytes();
const GSS: &[u8] = &80_877_104u32.to_be_bytes();

/// The connection as what follows is to be read from; `None` if the client has gone, or wants TLS where there is none.
pub(super) async fn negotiate(
    mut stream: TcpStream,
    reader: &mut Reader,
    tls: Option<&TlsAcceptor>,
) -> Result<Option<Socket>, Unreadable> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Ok(None);
    }
    if first == [TLS_HANDSHAKE] {
        let Some(tls) = tls else { return Ok(None) };
        return encrypted(stream, tls, true).await.map(Some);
    }
    let mut wishes = [(SSL, false), (GSS, false)];
    loop {
        let length = match reader.whole(&mut stream, Stage::Startup).await {
            Ok(Some(length)) => length,
            Ok(None) => return Ok(None),
            Err(unreadable) => {
                tell(&mut stream, &unreadable).await?;
                return Err(unreadable);
            }
        };
        let Some((_, wished)) = wishes
            .iter_mut()
            .find(|(wish, _)| reader.first(length).get(4..) == Some(*wish))
        else {
            break;
        };
        if std::mem::replace(wished, true) {
            let twice = Unreadable::from(Fault::new("encryption is wished for twice"));
            tell(&mut stream, &twice).await?;
            return Err(twice);
        }
        let is_tls = reader.taken(length).get(4..) == Some(SSL);
        match tls.filter(|_| is_tls) {
            Some(tls) => {
                stream.write_all(b"S").await?;
                return encrypted(stream, tls, false).await.map(Some);
            }
            None => stream.write_all(b"N").await?,
        }
    }
    let from = stream.peer_addr()?;
    Ok(Some(socket(
        MaybeTls::Plain(stream),
        DefaultClient::new(from, false),
    )))
}

/// Tells a client what is wrong with its first message.
async fn tell(stream: &mut TcpStream, unreadable: &Unreadable) -> Result<(), Unreadable> {
    let told = ErrorInfo::new("FATAL".into(), "08P01".into(), unreadable.to_string());
    let mut bytes = BytesMut::new();
    PgWireBackendMessage::ErrorResponse(told.into()).encode(&mut bytes)?;
    Ok(stream.write_all(&bytes).await?)
}

async fn encrypted(stream: TcpStream, tls: &TlsAcceptor, is_direct: bool) -> Result<Socket, Unreadable> {
    let from = stream.peer_addr()?;
    let stream = tls.accept(stream).await?;
    let protocol = stream.get_ref().1.alpn_protocol();
    if is_direct && protocol != Some(super::tls::PROTOCOL) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "TLS for no protocol that is spoken here",
        )
        .into());
    }
    Ok(socket(
        MaybeTls::Tls(Box::new(stream)),
        DefaultClient::new(from, true),
    ))
}

fn socket(stream: MaybeTls, client: DefaultClient<super::handler::Prepared>) -> Socket {
    // Its buffer for reading is not used: `Reader` has its own.
    let mut socket = Framed::with_capacity(stream, PgWireMessageServerCodec::new(client), 0);
    socket.set_state(PgWireConnectionState::AwaitingStartup);
    socket
}
