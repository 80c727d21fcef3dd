//! Frames: a length and as many bytes, none larger than it may be, none slower than it may be.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// Most bytes of a frame: what two processes tell each other is a few hundred.
const MOST: usize = 64 << 10;

/// Reads exactly `bytes` before `deadline`, however slowly they come.
pub(super) fn read_exact(stream: &TcpStream, bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
    let (mut stream, mut read) = (stream, 0);
    while read < bytes.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left < Duration::from_millis(1) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut bytes[read..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What a time limit of a socket is called depends on the system.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits for a frame, as long as it takes.
pub(super) fn wait(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; checked(length)?];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn checked(length: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_be_bytes(length) as usize;
    if length > MOST {
        let message = format!("a message of {length} bytes is none of dbb's");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(length)
}

/// Writes a frame, in one piece.
pub(super) fn write(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if bytes.len() > MOST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut frame = Vec::with_capacity(4 + bytes.len());
    frame.extend(length.to_be_bytes());
    frame.extend(bytes);
    stream.write_all(&frame)
}
