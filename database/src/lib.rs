//! What all that speaks to PostgreSQL shares: whether a connection keeps its session.
//!
//! ```text
//!   connection --is the backend that answers the one that let us in?--yes--> direct
//!                    \--no: a pooler--does another session see our lock with our backend?--yes--> kept
//!                                                                                      \--no--> refused
//! ```
//!
//! Settings of a session, its locks, its prepared statements and its replication slots are all lost behind a pooler that
//! gives each transaction another session, without an error that says so.

mod greeted;
mod kept;

pub use kept::{Kept, NotKept, kept};

use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Begins a session, within the runtime that is at work.
///
/// # Errors
///
/// The server does not let us in, or cannot be reached.
pub async fn connect(config: &Config, tls: Option<&MakeRustlsConnect>) -> Result<Client, Error> {
    match tls {
        Some(tls) => {
            let (client, connection) = config.connect(tls.clone()).await?;
            // How it ends, whoever asks next is told.
            tokio::spawn(async { drop(connection.await) });
            Ok(client)
        }
        None => {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(async { drop(connection.await) });
            Ok(client)
        }
    }
}

/// Whether connections made so keep their sessions, for whoever has no runtime: with sessions of its own, within `limit`.
///
/// # Errors
///
/// [`NotKept`].
pub fn check(config: &Config, tls: Option<&MakeRustlsConnect>, limit: Duration) -> Result<Kept, NotKept> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(NotKept::Here)?;
    runtime.block_on(async {
        let asked = async {
            let first = connect(config, tls).await?;
            kept(&first, || connect(config, tls)).await
        };
        timeout(limit, asked).await.unwrap_or(Err(NotKept::Silent(limit)))
    })
}
