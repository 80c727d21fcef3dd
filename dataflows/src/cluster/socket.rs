//! Sockets: what the system is told of a connection between two processes.

use socket2::{SockRef, TcpKeepalive};
use std::{io, net::TcpStream, time::Duration};

/// Makes a connection that says so when the other side has been out of reach for `patience`, idle or not, and
/// that sends what is written at once.
pub(super) fn tune(stream: &TcpStream, patience: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let second = Duration::from_secs(1);
    let probe = (patience / 4).max(second);
    let keepalive = TcpKeepalive::new()
        .with_time(probe)
        .with_interval(probe)
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(patience))
}

/// True unless the other side has closed `stream`, or it has failed; reads nothing.
pub(super) fn is_open(stream: &TcpStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    let open = match stream.peek(&mut [0]) {
        Ok(0) => false,
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    };
    stream.set_nonblocking(false).is_ok() && open
}
