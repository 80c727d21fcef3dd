//! A server for one test, which answers as it is told: HTTP without what would stand in the way of faults.

#![allow(clippy::unwrap_used)]

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// The names in a request for metadata.
    pub(crate) fn names(&self) -> Vec<String> {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let dids = body["dids"].as_array().cloned().unwrap_or_default();
        dids.iter()
            .filter_map(|did| Some(did["name"].as_str()?.to_owned()))
            .collect()
    }

    /// One of its headers, by the name in lower case.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What to answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
    /// The connection closes before the end of the body.
    pub(crate) breaks: bool,
    pub(crate) after: Duration,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            breaks: false,
            after: Duration::ZERO,
        }
    }

    /// An error as Rucio tells them.
    pub(crate) fn error(status: u16, class: &str, message: &str) -> Self {
        Self::new(
            status,
            json!({"ExceptionClass": class, "ExceptionMessage": message}).to_string(),
        )
        .with("ExceptionClass", class)
        .with("ExceptionMessage", message)
    }

    /// A token.
    pub(crate) fn token(value: &str) -> Self {
        Self::new(200, "")
            .with("X-Rucio-Auth-Token", value)
            .with("X-Rucio-Auth-Token-Expires", "Fri, 27 Nov 2099 20:39:41 UTC")
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

type Answer = dyn Fn(&Asked) -> Reply + Send;

/// The server, for as long as the test runs.
pub(crate) struct Server {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<Mutex<Box<Answer>>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + 'static) -> Result<Self> {
        Self::at(0, answer)
    }

    pub(crate) fn at(port: u16, answer: impl Fn(&Asked) -> Reply + Send + 'static) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let server = Self {
            port: listener.local_addr()?.port(),
            asked: Arc::default(),
            answer: Arc::new(Mutex::new(Box::new(answer))),
        };
        let (asked, answer) = (Arc::clone(&server.asked), Arc::clone(&server.answer));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (asked, answer) = (Arc::clone(&asked), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &asked, &answer));
            }
        });
        Ok(server)
    }

    /// From now on it answers so.
    pub(crate) fn answers(&self, answer: impl Fn(&Asked) -> Reply + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    /// All that was asked, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often metadata were asked for.
    pub(crate) fn bulks(&self) -> usize {
        self.asked()
            .iter()
            .filter(|asked| asked.path == "/dids/bulkmeta")
            .count()
    }
}

fn serve(mut stream: TcpStream, asked: &Mutex<Vec<Asked>>, answer: &Mutex<Box<Answer>>) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).context("no path")?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let this = Asked { path, headers, body };
    asked.lock().unwrap().push(this.clone());
    let reply = answer.lock().unwrap()(&this);
    thread::sleep(reply.after);
    let length = reply.body.len() + if reply.breaks { 1000 } else { 0 };
    write!(
        stream,
        "HTTP/1.1 {} Said\r\nContent-Length: {length}\r\nConnection: close\r\n",
        reply.status
    )?;
    for (name, value) in &reply.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "\r\n{}", reply.body)?;
    Ok(())
}

/// What a Rucio answers that knows the metadata of these names, in scope `raw`.
pub(crate) fn rucio(known: BTreeMap<String, Value>) -> impl Fn(&Asked) -> Reply + Send + 'static {
    move |asked| match asked.path.as_str() {
        "/auth/userpass" => Reply::token("token-1"),
        "/dids/bulkmeta" => {
            let line = |name: String| {
                let mut metadata = known.get(&name)?.clone();
                metadata["scope"] = "raw".into();
                metadata["name"] = name.into();
                Some(format!("{metadata}\n"))
            };
            Reply::new(
                200,
                asked.names().into_iter().filter_map(line).collect::<String>(),
            )
        }
        _ => Reply::new(404, "nothing here"),
    }
}
