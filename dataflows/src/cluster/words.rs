//! Words: what the processes of a cluster tell each other beside their dataflows.

use super::frame;
use serde::{Deserialize, Serialize};
use std::{io, net::TcpStream};

/// What one process tells the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Word {
    /// That it is there, and whether its own workers have nothing left to do.
    Beat { drained: bool },
    /// From the first: the generation under which all work.
    Begin { generation: i64 },
    /// That it has opened all it needs, and can work.
    Ready,
    /// That it was asked to stop: so all are.
    Stop,
    /// From the first: that the work is done, and everyone leaves.
    Finish,
    /// That it cannot go on.
    Failed {
        reason: String,
        /// Another cluster has taken the ledger over: starting again helps nobody.
        taken_over: bool,
    },
    /// The last word: what closes after it is no loss.
    Bye,
}

impl Word {
    pub(super) fn send(&self, stream: &TcpStream) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        frame::write(stream, &bytes)
    }

    /// Waits for the next.
    pub(super) fn receive(stream: &TcpStream) -> io::Result<Self> {
        serde_json::from_slice(&frame::wait(stream)?).map_err(io::Error::other)
    }
}
