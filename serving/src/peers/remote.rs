//! Remote: the replicas of another process, as of one epoch, read as they are asked for.

use super::{
    Token,
    proof::{Nonce, Proof, Signature},
    wire::{Reply, Request, What},
};
use arrow::{array::RecordBatch, datatypes::SchemaRef, ipc::reader::StreamReader};
use dbb_operators::{
    Epoch,
    views::{Batches, Scan, Table, Unread},
};
use std::{
    io::{self, BufReader, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::Arc,
    time::{Duration, Instant},
};

/// Longest that another process may say nothing while it has something to say.
const SILENCE: Duration = Duration::from_secs(5);

/// How often a connection is made that is closed again before anything was said.
const TRIES: usize = 5;

/// See the module.
pub(super) struct Remote {
    peer: Peer,
    epoch: Epoch,
    schema: SchemaRef,
    rows: usize,
    /// While it is open, the other process keeps the epoch.
    _hold: TcpStream,
}

#[derive(Clone)]
struct Peer {
    process: usize,
    address: Arc<str>,
    token: Token,
}

impl Remote {
    /// Asks for the epoch to be kept, before `deadline`.
    pub(super) fn hold(
        process: usize,
        address: &str,
        token: &Token,
        epoch: Epoch,
        schema: SchemaRef,
        deadline: Instant,
    ) -> Result<Self, Unread> {
        let peer = Peer {
            process,
            address: address.into(),
            token: Arc::clone(token),
        };
        let patience = deadline.saturating_duration_since(Instant::now()).min(SILENCE);
        let (hold, rows) = peer.ask(epoch, What::Hold, patience)?;
        Ok(Self {
            peer,
            epoch,
            schema,
            rows,
            _hold: hold,
        })
    }
}

impl Peer {
    fn failed(&self, error: impl Into<io::Error>) -> Unread {
        let error: io::Error = error.into();
        let why = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it does not answer".to_owned(),
            io::ErrorKind::UnexpectedEof => "it broke off".to_owned(),
            _ => error.to_string(),
        };
        self.unread(&why)
    }

    fn unread(&self, why: &str) -> Unread {
        let Self { process, address, .. } = self;
        Unread(format!(
            "the replicas of process {process} ({address}) cannot be read: {why}; ask again once the cluster is whole"
        ))
    }

    /// A connection on which it has said that it has the epoch, and how many rows.
    fn ask(&self, epoch: Epoch, what: What, patience: Duration) -> Result<(TcpStream, usize), Unread> {
        // No time at all would mean for ever.
        let deadline = Instant::now() + patience.max(Duration::from_millis(1));
        let mut tries = TRIES;
        loop {
            tries -= 1;
            return match self.introduced(deadline) {
                // Among many strangers it may have been taken for one of them.
                Err(error) if is_cut(&error) && tries > 0 => continue,
                Err(error) => Err(self.failed(error)),
                Ok((stream, nonce)) => self.asked(stream, nonce, epoch, what, deadline),
            };
        }
    }

    /// A connection, and the nonce with which it was greeted.
    fn introduced(&self, deadline: Instant) -> io::Result<(TcpStream, Nonce)> {
        let mut stream = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
        for address in self.address.to_socket_addrs()? {
            stream = TcpStream::connect_timeout(&address, left(deadline));
            if stream.is_ok() {
                break;
            }
        }
        let mut stream = stream?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(left(deadline)))?;
        stream.set_write_timeout(Some(left(deadline)))?;
        let mut nonce = Nonce::default();
        stream.read_exact(&mut nonce)?;
        Ok((stream, nonce))
    }

    fn asked(
        &self,
        mut stream: TcpStream,
        nonce: Nonce,
        epoch: Epoch,
        what: What,
        deadline: Instant,
    ) -> Result<(TcpStream, usize), Unread> {
        let failed = |error: io::Error| self.failed(error);
        let proof = Proof::asking(&self.token, nonce);
        let request = Request {
            epoch,
            patience_ms: u64::try_from(left(deadline).as_millis()).unwrap_or(u64::MAX),
            what,
        };
        let mut said = proof.introduction().map_err(failed)?.to_vec();
        said.extend(request.signed(&proof).map_err(failed)?);
        stream.write_all(&said).map_err(failed)?;
        stream.set_read_timeout(Some(left(deadline))).map_err(failed)?;
        let mut answer = Signature::default();
        stream.read_exact(&mut answer).map_err(failed)?;
        if !proof.is_answered(&answer).map_err(failed)? {
            return Err(
                self.unread("whoever is there does not prove the token of the cluster: the token is another")
            );
        }
        match Reply::receive(&mut stream).map_err(failed)? {
            Reply::Rows(rows) => Ok((stream, rows)),
            Reply::No(why) => Err(self.unread(&why)),
        }
    }

    fn scan(&self, epoch: Epoch, scan: &Scan) -> Result<Rows, Unread> {
        let what = What::Scan {
            projection: scan.projection.clone(),
            equal: scan.equal.clone(),
        };
        let (stream, _) = self.ask(epoch, what, SILENCE)?;
        stream
            .set_read_timeout(Some(SILENCE))
            .map_err(|error| self.failed(error))?;
        let stream = BufReader::with_capacity(1 << 16, stream);
        let stream = StreamReader::try_new(stream, None).map_err(|error| self.failed(told(error)))?;
        Ok(Rows {
            peer: self.clone(),
            stream,
            rows: 0,
        })
    }
}

/// What is left until `deadline`; never nothing, which would mean for ever.
fn left(deadline: Instant) -> Duration {
    let left = deadline.saturating_duration_since(Instant::now());
    left.max(Duration::from_millis(1))
}

/// Whether the other side has closed a connection.
fn is_cut(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// What Arrow says of what the connection said.
fn told(error: arrow::error::ArrowError) -> io::Error {
    match error {
        arrow::error::ArrowError::IoError(_, error) => error,
        error => io::Error::other(error),
    }
}

/// Rows that come.
struct Rows {
    peer: Peer,
    stream: StreamReader<BufReader<TcpStream>>,
    rows: u64,
}

impl Rows {
    fn next(&mut self) -> Result<Option<RecordBatch>, Unread> {
        match self.stream.next() {
            Some(Ok(batch)) => {
                self.rows += batch.num_rows() as u64;
                Ok(Some(batch))
            }
            Some(Err(error)) => Err(self.peer.failed(told(error))),
            None => {
                // A stream that breaks off between two batches looks like one that has ended.
                let mut sent = [0; 8];
                let read = self.stream.get_mut().read_exact(&mut sent);
                read.map_err(|error| self.peer.failed(error))?;
                if u64::from_be_bytes(sent) != self.rows {
                    return Err(self.peer.unread("it sent other rows than it says"));
                }
                Ok(None)
            }
        }
    }
}

impl Table for Remote {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn waits(&self) -> bool {
        true
    }

    fn scan(&self, scan: &Scan) -> Batches {
        enum Reading {
            Not(Peer, Epoch, Scan),
            Rows(Box<Rows>),
            Over,
        }
        let mut reading = Reading::Not(self.peer.clone(), self.epoch, scan.clone());
        Box::new(std::iter::from_fn(move || {
            let next = match &mut reading {
                Reading::Over => return None,
                Reading::Rows(rows) => rows.next(),
                Reading::Not(peer, epoch, scan) => match peer.scan(*epoch, scan) {
                    Ok(mut rows) => {
                        let first = rows.next();
                        reading = Reading::Rows(Box::new(rows));
                        first
                    }
                    Err(error) => Err(error),
                },
            };
            if !matches!(next, Ok(Some(_))) {
                reading = Reading::Over;
            }
            next.transpose()
        }))
    }
}
