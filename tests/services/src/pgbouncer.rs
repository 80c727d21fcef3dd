//! A private PgBouncer before a PostgreSQL server, as production databases have one.

use crate::{Postgres, Process, Program, free_port, postgres::server_user, wait_until};
use anyhow::{Context, Result};
use std::{fs, net::TcpStream, os::unix::fs::chown, path::Path, time::Duration};

/// Where Debian installs it.
const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// When it gives the server's session of a connection to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// When the connection ends.
    Session,
    /// After each transaction.
    Transaction,
    /// After each statement.
    Statement,
}

/// A running pooler. Dropping it ends it.
#[derive(Debug)]
pub struct PgBouncer {
    _process: Process,
    port: u16,
    // Last: the folder goes when the pooler has gone.
    _folder: tempfile::TempDir,
}

impl PgBouncer {
    /// A pooler of all databases of `postgres`, which lets anybody in; returns when it answers.
    pub fn start(postgres: &Postgres, mode: PoolMode) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("dbb-pgbouncer-").tempdir()?;
        let port = free_port()?;
        let mode = match mode {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
            PoolMode::Statement => "statement",
        };
        let config = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user={}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = {mode}\ndefault_pool_size = 10\n",
            postgres.port(),
            Postgres::USER,
        );
        fs::write(&config, text)?;
        let mut program = Program::new(PROGRAM, folder.path().join("log"))
            .arg(config.clone())
            .current_dir(folder.path())
            .remove(folder.path());
        // It refuses to run as root, as the server does.
        if let Some((user, group)) = server_user(folder.path())? {
            for path in [folder.path(), &config] {
                chown(path, Some(user), Some(group))?;
            }
            program = program.user(user, group);
        }
        let missing = || format!("{PROGRAM} is not there: scripts/setup postgres");
        Path::new(PROGRAM).exists().then_some(()).with_context(missing)?;
        let process = program.start()?;
        wait_until("PgBouncer answers", Duration::from_secs(30), || {
            anyhow::ensure!(
                process.is_running(),
                "PgBouncer has ended:\n{}",
                process.log_end()
            );
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
        })?;
        Ok(Self {
            _process: process,
            port,
            _folder: folder,
        })
    }

    /// `postgresql://postgres@127.0.0.1:PORT/DATABASE`.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgresql://{}@127.0.0.1:{}/{database}",
            Postgres::USER,
            self.port
        )
    }
}
