//! A stand-in for Rucio's REST interface: it knows labels, takes its time, and can be down.

use anyhow::Result;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

/// The version that it tells.
const VERSION: &str = "41.5.1";

/// Metadata of DIDs, by `scope:name`. What is not there Rucio does not know.
pub type Metadata = BTreeMap<String, serde_json::Map<String, Value>>;

/// A server on this host, until it is dropped.
#[derive(Debug)]
pub struct RucioStub {
    address: String,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    known: Mutex<Metadata>,
    takes: Duration,
    down: AtomicBool,
    gone: AtomicBool,
    requests: AtomicU64,
    dids: AtomicU64,
}

impl RucioStub {
    /// One that knows this, and takes so long for each request.
    pub fn start(known: Metadata, takes: Duration) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let inner = Arc::new(Inner {
            known: Mutex::new(known),
            takes,
            down: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            dids: AtomicU64::new(0),
        });
        let served = Arc::clone(&inner);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if served.gone.load(Relaxed) {
                    return;
                }
                let served = Arc::clone(&served);
                // A client that goes away is no trouble of ours.
                thread::spawn(move || drop(serve(stream, &served)));
            }
        });
        Ok(Self { address, inner })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it answers nothing but errors, or is well again.
    pub fn set_down(&self, down: bool) {
        self.inner.down.store(down, Relaxed);
    }

    /// It knows this too from now on.
    pub fn learn(&self, more: Metadata) {
        let mut known = self.inner.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(more);
    }

    /// Requests for metadata so far, and the DIDs in them.
    pub fn asked(&self) -> (u64, u64) {
        (self.inner.requests.load(Relaxed), self.inner.dids.load(Relaxed))
    }
}

impl Drop for RucioStub {
    fn drop(&mut self) {
        self.inner.gone.store(true, Relaxed);
        let _ = TcpStream::connect(&self.address);
    }
}

fn serve(stream: TcpStream, inner: &Inner) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let (mut line, mut length, mut is_ping) = (String::new(), 0usize, false);
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            is_ping |= line.starts_with("GET /ping ");
            let header = line.to_ascii_lowercase();
            if let Some(bytes) = header.strip_prefix("content-length:") {
                length = bytes.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let (status, answer) = if inner.down.load(Relaxed) || inner.gone.load(Relaxed) {
            ("503 Service Unavailable", Vec::new())
        } else {
            thread::sleep(inner.takes);
            let answer = match is_ping {
                true => json!({"version": VERSION}).to_string().into_bytes(),
                false => metadata(&body, inner),
            };
            ("200 OK", answer)
        };
        write!(
            writer,
            "HTTP/1.1 {status}\r\nContent-Type: application/x-json-stream\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        )?;
        writer.write_all(&answer)?;
    }
}

/// The lines of an answer.
fn metadata(body: &[u8], inner: &Inner) -> Vec<u8> {
    let Ok(asked) = serde_json::from_slice::<Value>(body) else {
        return Vec::new();
    };
    inner.requests.fetch_add(1, Relaxed);
    let known = inner.known.lock().unwrap_or_else(PoisonError::into_inner);
    let mut answer = Vec::new();
    for did in asked["dids"].as_array().into_iter().flatten() {
        inner.dids.fetch_add(1, Relaxed);
        let text = |name: &str| did[name].as_str().unwrap_or_default().to_owned();
        let (scope, name) = (text("scope"), text("name"));
        if let Some(labels) = known.get(&format!("{scope}:{name}")) {
            let mut line = labels.clone();
            line.insert("scope".into(), json!(scope));
            line.insert("name".into(), json!(name));
            answer.extend(Value::Object(line).to_string().into_bytes());
            answer.push(b'\n');
        }
    }
    answer
}
