//! A small STOMP client for tests: it sends as Rucio's Hermes does, and reads as a monitoring system would.
//!
//! It shares no line with the program, so that each is a check of the other.

use anyhow::{Context, Result, bail, ensure};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// A connection in the clear.
#[derive(Debug)]
pub struct Stomp {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StompFrame {
    /// `MESSAGE`, `RECEIPT`, `ERROR`.
    pub command: String,
    /// As they are on the wire.
    pub headers: Vec<(String, String)>,
    /// What was sent.
    pub body: Vec<u8>,
}

impl StompFrame {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Stomp {
    /// Connects to a broker at `port` of 127.0.0.1; `headers` are `login`, `passcode`, `client-id`.
    pub fn connect(port: u16, headers: &[(&str, &str)]) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("no STOMP broker answers")?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            buffer: Vec::new(),
        };
        let own = [("accept-version", "1.2"), ("host", "tests")];
        client.write("CONNECT", &[&own, headers].concat(), b"")?;
        let answer = client
            .frame(Duration::from_secs(30))?
            .context("no answer to CONNECT")?;
        ensure!(
            answer.command == "CONNECTED",
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        Ok(client)
    }

    /// Sends a persistent message, and returns when the broker has it.
    pub fn send(&mut self, destination: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
        self.post(destination, &[&[("receipt", "sent")], headers].concat(), body)?;
        self.expect_receipt("sent")
    }

    /// Sends a persistent message and asks for no receipt, as Hermes does; returns the body's bytes.
    pub fn post(&mut self, destination: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<usize> {
        let own = [("destination", destination), ("persistent", "true")];
        self.write("SEND", &[&own, headers].concat(), body)?;
        Ok(body.len())
    }

    /// Subscribes; what is received is acknowledged by that. With `activemq.subscriptionName` and a `client-id` the
    /// subscription to a topic is durable.
    pub fn subscribe(&mut self, destination: &str, headers: &[(&str, &str)]) -> Result<()> {
        let own = [
            ("id", "0"),
            ("destination", destination),
            ("receipt", "subscribed"),
        ];
        self.write("SUBSCRIBE", &[&own, headers].concat(), b"")?;
        self.expect_receipt("subscribed")
    }

    /// The next message; `None` if none came for `patience`.
    pub fn receive(&mut self, patience: Duration) -> Result<Option<StompFrame>> {
        let frame = self.frame(patience)?;
        if let Some(frame) = &frame {
            ensure!(
                frame.command == "MESSAGE",
                "{}: {}",
                frame.command,
                String::from_utf8_lossy(&frame.body)
            );
        }
        Ok(frame)
    }

    /// Says good-bye: what was sent before has been taken when this returns.
    pub fn disconnect(mut self) -> Result<()> {
        self.write("DISCONNECT", &[("receipt", "bye")], b"")?;
        self.expect_receipt("bye")
    }

    fn expect_receipt(&mut self, id: &str) -> Result<()> {
        let answer = self.frame(Duration::from_secs(30))?.context("no receipt")?;
        ensure!(
            answer.command == "RECEIPT" && answer.header("receipt-id") == Some(id),
            "{}: {}",
            answer.command,
            String::from_utf8_lossy(&answer.body)
        );
        Ok(())
    }

    fn write(&mut self, command: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
        let mut frame = format!("{command}\n").into_bytes();
        for (key, value) in headers {
            frame.extend_from_slice(format!("{key}:{value}\n").as_bytes());
        }
        frame.push(b'\n');
        frame.extend_from_slice(body);
        frame.push(0);
        self.stream.write_all(&frame)?;
        Ok(())
    }

    fn frame(&mut self, patience: Duration) -> Result<Option<StompFrame>> {
        let until = Instant::now() + patience;
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut block = [0; 16 * 1024];
            match self.stream.read(&mut block) {
                Ok(0) => bail!("the broker closed the connection"),
                Ok(read) => self.buffer.extend_from_slice(&block[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(&mut self) -> Result<Option<StompFrame>> {
        let blank = self.buffer.iter().take_while(|byte| **byte == b'\n').count();
        self.buffer.drain(..blank);
        let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") else {
            return Ok(None);
        };
        let head = String::from_utf8(self.buffer[..end].to_vec())?;
        let mut lines = head.lines();
        let command = lines.next().unwrap_or_default().to_owned();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let from = end + 2;
        let length = headers.iter().find(|(key, _)| key == "content-length");
        let to = match length {
            Some((_, length)) => Some(from + length.parse::<usize>()?),
            None => self.buffer[from..]
                .iter()
                .position(|byte| *byte == 0)
                .map(|at| from + at),
        };
        let Some(to) = to.filter(|to| self.buffer.len() > *to) else {
            return Ok(None);
        };
        let body = self.buffer[from..to].to_vec();
        self.buffer.drain(..=to);
        Ok(Some(StompFrame {
            command,
            headers,
            body,
        }))
    }
}
