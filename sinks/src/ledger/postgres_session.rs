//! A session with PostgreSQL in which no call waits for ever: a server that hangs is one that is away.
//!
//! A server that is stopped, or whose disk hangs, keeps its connections open and takes what it is sent: the network
//! tells nothing. So each call has a limit here, and the session ends with the first that passes it.

use crate::ledger::postgres_connect::Target;
use dbb_database::{Kept, NotKept, kept};
use std::time::Duration;
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};
use tokio_postgres::{Client, Error, Row, Statement, types::ToSql};

/// Longest that the server may take to let a session begin.
const CONNECT: Duration = Duration::from_secs(10);
/// The server ends a statement by itself at the limit; only where it does not, this side does, so much later.
const GRACE: Duration = Duration::from_secs(1);

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server, or the way to it, said so.
    Said(Error),
    /// It said nothing for so long.
    Silent(Duration),
    /// Something is wrong with this process.
    Here(std::io::Error),
    /// What is said in a session does not stay there.
    NotKept(String),
}

impl From<NotKept> for Failure {
    fn from(error: NotKept) -> Self {
        match error {
            NotKept::Lost(_) => Self::NotKept(error.to_string()),
            NotKept::Database(error) => Self::Said(error),
            NotKept::Silent(limit) => Self::Silent(limit),
            NotKept::Here(error) => Self::Here(error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Said(error)
    }
}

/// See the module. What it is asked while another runtime is at work on the same thread is a fault of the program.
pub(super) struct Session {
    client: Client,
    kept: Kept,
    limit: Duration,
    /// Last: the connection's task goes after the client.
    runtime: Runtime,
}

impl Session {
    /// Begins one in which a statement may take as long as `limit`, and wait for a lock for `lock`.
    pub(super) fn open(target: &Target, limit: Duration, lock: Duration) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::Here)?;
        let connect = || dbb_database::connect(&target.config, target.tls.as_ref());
        let begin = async {
            let client = connect().await?;
            // What is set below, and statements that are prepared, would be lost, and a commit might not be on disk.
            let kept = kept(&client, connect).await?;
            Ok::<_, Failure>((client, kept))
        };
        let patience = CONNECT.min(limit);
        let (client, kept) = runtime
            .block_on(async { timeout(patience, begin).await })
            .map_err(|_| Failure::Silent(patience))??;
        let session = Self {
            client,
            kept,
            limit,
            runtime,
        };
        // A commit is on disk when it returns, whatever the server's default is; no lock, and no transaction whose
        // process hangs, holds the others up for ever.
        session.batch_execute(&format!(
            "SET synchronous_commit = on; SET lock_timeout = {}; SET statement_timeout = {}; \
             SET idle_in_transaction_session_timeout = '60s'; SET client_min_messages = warning",
            lock.min(limit).as_millis(),
            limit.as_millis().min(i32::MAX as u128)
        ))?;
        Ok(session)
    }

    fn run<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
        let limit = self.limit + GRACE;
        match self.runtime.block_on(async { timeout(limit, call).await }) {
            Ok(done) => done.map_err(Failure::Said),
            Err(_) => Err(Failure::Silent(limit)),
        }
    }

    /// How it is kept.
    pub(super) fn kept(&self) -> Kept {
        self.kept
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub(super) fn batch_execute(&self, sql: &str) -> Result<(), Failure> {
        self.run(self.client.batch_execute(sql))
    }

    pub(super) fn prepare(&self, sql: &str) -> Result<Statement, Failure> {
        self.run(self.client.prepare(sql))
    }

    pub(super) fn query(
        &self,
        statement: &Statement,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        self.run(self.client.query(statement, values))
    }

    pub(super) fn execute(
        &self,
        statement: &Statement,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Failure> {
        self.run(self.client.execute(statement, values))
    }
}
