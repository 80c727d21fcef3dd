//! A broker that means harm: it lets everyone in, takes the subscription, and then sends what no broker should, as fast as it
//! is read. What it gets rid of is counted, for that is what its reader takes.

use anyhow::Result;
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

/// What it does once it is subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// A message that says it has 1 GiB, and has.
    DeclaredGigabyte,
    /// A message without a length and without an end.
    EndlessBody,
    /// A message whose headers do not end.
    EndlessHead,
    /// Messages of 64 KiB without end, whatever is acknowledged.
    EndlessMessages,
    /// Small messages without end, each between many heart-beats.
    PaddedMessages,
    /// Names of 60 000 bytes.
    LongNames,
    /// Heart-beats without end.
    EndlessBeats,
    /// Nothing, and no answer.
    Silence,
}

/// A server on this host, until it is dropped.
#[derive(Debug)]
pub struct StompStub {
    port: u16,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    harm: Harm,
    gone: AtomicBool,
    connections: AtomicU64,
    sent: AtomicU64,
    /// What it was told since it was subscribed to.
    heard: Mutex<Vec<u8>>,
    open: Mutex<Vec<TcpStream>>,
}

impl StompStub {
    /// One that does this harm to all who come.
    pub fn start(harm: Harm) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let inner = Arc::new(Inner {
            harm,
            gone: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            heard: Mutex::default(),
            open: Mutex::default(),
        });
        let served = Arc::clone(&inner);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if served.gone.load(Relaxed) {
                    return;
                }
                served.connections.fetch_add(1, Relaxed);
                if let Ok(copy) = stream.try_clone() {
                    served.open().push(copy);
                }
                let served = Arc::clone(&served);
                // Whoever leaves has had enough.
                thread::spawn(move || drop(serve(stream, &served)));
            }
        });
        Ok(Self { port, inner })
    }

    /// Where it listens, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How often it was connected to.
    pub fn connections(&self) -> u64 {
        self.inner.connections.load(Relaxed)
    }

    /// Bytes that it got rid of, what the system holds for its readers included.
    pub fn sent(&self) -> u64 {
        self.inner.sent.load(Relaxed)
    }

    /// What it was told since it was subscribed to, on all connections.
    pub fn heard(&self) -> String {
        let heard = self.inner.heard.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&heard).into_owned()
    }
}

impl Drop for StompStub {
    fn drop(&mut self) {
        self.inner.gone.store(true, Relaxed);
        for stream in self.inner.open().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // So that the thread that accepts looks up.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Inner {
    fn open(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(mut stream: TcpStream, inner: &Inner) -> Result<()> {
    let mut block = [0; 4096];
    for answer in [
        "CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0",
        "RECEIPT\nreceipt-id:subscribed\n\n\0",
    ] {
        // One frame at a time: who asks waits for the answer.
        while stream.read(&mut block)? > 0 && !block.contains(&0) {}
        block = [0; 4096];
        stream.write_all(answer.as_bytes())?;
    }
    if inner.harm == Harm::Silence {
        loop {
            let read = stream.read(&mut block)?;
            if read == 0 {
                return Ok(());
            }
            let mut heard = inner.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.extend_from_slice(&block[..read]);
        }
    }
    let beats = "\n".repeat(64 * 1024);
    let letters = "x".repeat(64 * 1024);
    let (first, again): (String, Box<dyn Fn(u64) -> String>) = match inner.harm {
        Harm::DeclaredGigabyte => (
            "MESSAGE\nmessage-id:ID:1\nack:1\ncontent-length:1073741824\n\n".into(),
            Box::new(move |_| letters.clone()),
        ),
        Harm::EndlessBody => (
            "MESSAGE\nmessage-id:ID:1\nack:1\n\n".into(),
            Box::new(move |_| letters.clone()),
        ),
        Harm::EndlessHead => ("MESSAGE\n".into(), Box::new(|_| "name:value\n".repeat(1000))),
        Harm::EndlessMessages => (
            String::new(),
            Box::new(move |n| format!("MESSAGE\nmessage-id:ID:{n}\nack:{n}\n\n{letters}\0")),
        ),
        Harm::PaddedMessages => (
            String::new(),
            Box::new(move |n| format!("{beats}MESSAGE\nmessage-id:ID:{n}\nack:{n}\n\n{{}}\0")),
        ),
        Harm::LongNames => (
            String::new(),
            Box::new(move |n| {
                let name = &letters[..60_000];
                format!("MESSAGE\nmessage-id:{n}{name}\nack:{n}\n\n{{}}\0")
            }),
        ),
        Harm::EndlessBeats | Harm::Silence => (String::new(), Box::new(move |_| beats.clone())),
    };
    let mut send = |text: &str| -> Result<()> {
        for piece in text.as_bytes().chunks(64 * 1024) {
            stream.write_all(piece)?;
            inner.sent.fetch_add(piece.len() as u64, Relaxed);
        }
        Ok(())
    };
    send(&first)?;
    for n in 1.. {
        send(&again(n))?;
    }
    Ok(())
}
