//! Links: the connections over which dataflows of two processes exchange what they do.
//!
//! A link that breaks ends this process, unless the other side has said goodbye as the engine does: with a header of
//! zeros, and nothing after it.

use super::Members;
use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
};
use timely::communication::allocator::zero_copy::stream::Stream;

/// Bytes of the header with which the engine says goodbye: all of them are zero.
const GOODBYE: usize = 48;

/// A link with one process.
pub(super) struct Link {
    stream: TcpStream,
    members: Arc<Members>,
    process: usize,
    /// How many zeros were read last.
    zeros: usize,
}

impl Link {
    pub(super) fn new(stream: TcpStream, members: Arc<Members>, process: usize) -> Self {
        Self {
            stream,
            members,
            process,
            zeros: 0,
        }
    }

    /// The other side has gone, and this process with it: it comes back from here only as an error.
    fn lost(&self, error: io::Error) -> io::Error {
        self.members.lost_link(self.process, &error);
        error
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) if self.zeros >= GOODBYE => return Ok(0),
                Ok(0) => return Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => {
                    let zeros = buffer[..n].iter().rev().take_while(|byte| **byte == 0).count();
                    // Of a piece that is all zeros, what was before counts as well.
                    self.zeros = if zeros == n {
                        (self.zeros + n).min(GOODBYE)
                    } else {
                        zeros
                    };
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(error)),
            }
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A process that has failed says no goodbye: the others would think that all is done.
        self.members.park_if_failed();
        loop {
            match self.stream.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(error)),
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Link {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::new(
            self.stream.try_clone()?,
            Arc::clone(&self.members),
            self.process,
        ))
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.stream.set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.members.park_if_failed();
        match self.stream.shutdown(how) {
            // The other side has read the goodbye and closed before us.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            other => other,
        }
    }
}
