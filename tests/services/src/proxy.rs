//! A proxy between two programs, whose cable can be cut: nothing passes any more, and nobody is told.

use anyhow::{Context, Result};
use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Passes on what comes to its address; until this process ends.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    cut: Arc<AtomicBool>,
}

impl Proxy {
    /// Listens at `address` and connects each caller with `target`.
    pub fn start(address: String, target: String) -> Result<Self> {
        let listener = TcpListener::bind(&address).context("the proxy cannot listen")?;
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = Arc::clone(&cut);
        thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                // A target that is not there yet refuses, and so does this.
                let Ok(callee) = TcpStream::connect(&target) else {
                    continue;
                };
                for (from, to) in [(&caller, &callee), (&callee, &caller)] {
                    if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
                        let cut = Arc::clone(&is_cut);
                        thread::spawn(move || pass(from, to, &cut));
                    }
                }
            }
        });
        Ok(Self { address, cut })
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on nothing passes, not even that a connection has ended.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Release);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let _ = from.set_read_timeout(Some(Duration::from_millis(50)));
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer);
        if cut.load(Ordering::Acquire) {
            // Both ends stay open for as long as this thread waits.
            loop {
                thread::park();
            }
        }
        match read {
            Ok(0) => break,
            Ok(n) if to.write_all(&buffer[..n]).is_ok() => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => break,
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}
