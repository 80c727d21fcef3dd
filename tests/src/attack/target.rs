//! What is attacked, and how strangers connect to it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// Longest that a stranger waits for anything.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a running `dbb` listens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) sql: SocketAddr,
    pub(super) http: SocketAddr,
    /// The process, whose memory is looked at.
    pub(super) process: u32,
    /// How long what is held is held.
    pub(super) hold: Duration,
}

/// A connection, if the door opens.
pub(super) fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

/// A connection on which this has been said.
pub(super) fn say(address: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = connect(address)?;
    // Who is let go while speaking was let go.
    let _ = stream.write_all(bytes);
    Some(stream)
}

/// Many connections that say this and are held.
pub(super) fn hold(address: SocketAddr, many: usize, bytes: &[u8]) -> Vec<TcpStream> {
    (0..many).filter_map(|_| say(address, bytes)).collect()
}

/// Reads until the other side closes, or for so long.
pub(super) fn listen(stream: &mut TcpStream, patience: Duration) -> Vec<u8> {
    let (mut heard, mut block, since) = (Vec::new(), [0; 16 * 1024], Instant::now());
    while let Some(left) = patience
        .checked_sub(since.elapsed())
        .filter(|left| !left.is_zero())
    {
        if stream.set_read_timeout(Some(left)).is_err() {
            break;
        }
        match stream.read(&mut block) {
            Ok(0) | Err(_) => break,
            // No more is kept than anyone looks at.
            Ok(read) if heard.len() < 1 << 20 => heard.extend_from_slice(&block[..read]),
            Ok(_) => {}
        }
    }
    heard
}
