//! Proxy: a link between processes that can be cut: no byte passes, and nobody is told.

use anyhow::Result;
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

/// A link to one address; it is up until it is cut.
#[derive(Debug)]
pub(super) struct Proxy {
    address: String,
    cut: Arc<AtomicBool>,
}

impl Proxy {
    /// A link to `target`, which need not listen yet.
    pub(super) fn to(target: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let cut = Arc::new(AtomicBool::new(false));
        let held = Arc::clone(&cut);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Without an answer there, there is none here.
                let Ok(there) = TcpStream::connect(&target) else {
                    continue;
                };
                let (Ok(stream_again), Ok(there_again)) = (stream.try_clone(), there.try_clone()) else {
                    continue;
                };
                let (out, back) = (Arc::clone(&held), Arc::clone(&held));
                thread::spawn(move || pass(stream, there, &out));
                thread::spawn(move || pass(there_again, stream_again, &back));
            }
        });
        Ok(Self { address, cut })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Cuts it, or mends it.
    pub(super) fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Relaxed);
    }
}

/// Passes bytes on, until either side closes.
fn pass(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let read = match from.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        while cut.load(Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    // The other side may have closed first.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
