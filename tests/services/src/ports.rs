//! Ports nobody uses, which stay ours while this process lives, even when nothing listens on them.

use anyhow::{Context, Result, bail};
use std::{
    fs::{self, File},
    net::TcpListener,
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

/// Below the range Linux gives to outgoing connections: the port of a service that was killed must
/// still be free when it starts again, and a client calling a dead port must not reach itself.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A free port on the loopback interface, reserved for this process among all that ask here.
pub fn free_port() -> Result<u16> {
    static RESERVED: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let folder = std::env::temp_dir().join("dbb-test-ports");
    fs::create_dir_all(&folder).context("could not make a folder for reserved ports")?;
    let seed =
        SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos() ^ std::process::id().rotate_left(16);
    for step in 0..COUNT {
        let port = FIRST + ((seed % u32::from(COUNT)) as u16 + step) % COUNT;
        // The lock goes when this process does, whatever ends it.
        let lock = File::options()
            .create(true)
            .append(true)
            .open(folder.join(port.to_string()))?;
        if lock.try_lock().is_err() || TcpListener::bind(("127.0.0.1", port)).is_err() {
            continue;
        }
        RESERVED.lock().unwrap_or_else(|e| e.into_inner()).push(lock);
        return Ok(port);
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::free_port;
    use std::collections::BTreeSet;

    #[test]
    fn no_port_is_given_twice() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
    }
}
