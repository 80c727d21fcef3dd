//! Kept: whether all that a connection asks is done by one backend, which is nobody else's meanwhile.

use crate::greeted::greeted_by;
use std::{
    hash::{BuildHasher, RandomState},
    io,
    time::Duration,
};
use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// How often it is looked: others who use the pooler may hide it once.
const ROUNDS: u32 = 3;

/// How a session is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The backend that let us in answers.
    Direct,
    /// A pooler is in between, which keeps one backend for each connection.
    Pooled,
}

/// Why nobody may rely on a session.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// A pooler gives each transaction another one.
    #[error(
        "it is reached through a pooler that does not keep sessions ({0}): settings, locks and prepared statements get \
         lost there; connect directly, or in the pooler's session mode"
    )]
    Lost(String),
    /// The database could not be asked.
    #[error(transparent)]
    Database(#[from] Error),
    /// Nothing was said for so long.
    #[error("it does not answer: {} s have passed", .0.as_secs())]
    Silent(Duration),
    /// Something is wrong with this process.
    #[error(transparent)]
    Here(io::Error),
}

/// Looks whether `first` keeps its session; where it is not direct, with a lock, and a second session that
/// `connect` begins in the same way.
///
/// # Errors
///
/// [`NotKept`].
pub async fn kept<F>(first: &Client, connect: impl FnOnce() -> F) -> Result<Kept, NotKept>
where
    F: Future<Output = Result<Client, Error>>,
{
    let greeted = greeted_by(first).await.map_err(NotKept::Here)?;
    let own = backend(first).await?;
    if greeted == Some(own) {
        return Ok(Kept::Direct);
    }
    let second = connect().await?;
    // Its upper bits are those of a number that no other dbb has; it is never asked for again.
    let key = RandomState::new().hash_one(own) as i64;
    first
        .simple_query(&format!("SELECT pg_advisory_lock({key})"))
        .await?;
    let mut looked = Ok(());
    for _ in 0..ROUNDS {
        looked = look(first, &second, own, key).await;
        if looked.is_err() {
            break;
        }
    }
    release(first, &second, key).await;
    looked.map(|()| Kept::Pooled)
}

/// Looks once, from within a transaction, for which every pooler keeps a backend.
async fn look(first: &Client, second: &Client, own: i32, key: i64) -> Result<(), NotKept> {
    if let Err(error) = second.simple_query("BEGIN").await {
        // A pooler that gives each statement another backend takes no transactions.
        return Err(NotKept::Lost(cause(&error)));
    }
    let found = seen(first, second, own, key).await;
    second.simple_query("ROLLBACK").await?;
    found
}

async fn seen(first: &Client, second: &Client, own: i32, key: i64) -> Result<(), NotKept> {
    let lost = |why: String| Err(NotKept::Lost(why));
    let other = backend(second).await?;
    if other == own {
        return lost(format!("two connections at once have backend {own}"));
    }
    let sql = format!(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
         AND (classid::bigint << 32) | objid::bigint = {key}"
    );
    let holder = number(second, &sql).await?;
    if holder != Some(own) {
        return lost(format!("the lock of backend {own} is held by {holder:?}"));
    }
    let again = backend(first).await?;
    if again != own {
        return lost(format!("backend {own} has become backend {again}"));
    }
    Ok(())
}

/// Lets go of the lock, whichever backend has it.
async fn release(first: &Client, second: &Client, key: i64) {
    for client in [first, second, first, second] {
        // One that is not its own is only warned of; at the end of the backend it goes in any case.
        drop(
            client
                .simple_query(&format!("SELECT pg_advisory_unlock({key})"))
                .await,
        );
    }
}

async fn backend(client: &Client) -> Result<i32, NotKept> {
    let found = number(client, "SELECT pg_backend_pid()").await?;
    found.ok_or_else(|| NotKept::Lost("it does not tell the number of its backend".into()))
}

/// The first number of the answer. Nothing is prepared: a pooler would lose it.
async fn number(client: &Client, sql: &str) -> Result<Option<i32>, Error> {
    let answer = client.simple_query(sql).await?;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    }))
}

fn cause(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}
