//! Peers: replicas of a whole cluster, asked of any process.
//!
//! ```text
//!   statement --> replicas as of epoch e, here --> every other process: keep yours of e --> one table of all
//!   its scan  --> rows of this process, then those of each other one, as they send them
//! ```
//!
//! In:    what this process publishes; the addresses of the others, which they said with the first ticks.
//! Out:   published epochs whose `replicas` are those of all processes.
//! State: a connection to each other process for each statement on replicas, for as long as it lasts.
//!
//! Rows that cannot be had are an error of the statement, never missing: what another process sends ends with how many
//! rows it were. Both sides prove to know the token of the cluster; what is sent is not secret from who listens.

mod proof;
mod remote;
mod server;
mod wire;

pub use server::{PeerServer, serve};

use crate::sql::Epochs;
use dbb_operators::{
    publish::{Published, Publisher},
    views::{Chained, Table, Unread},
};
use remote::Remote;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// What this door is called in metrics and logs.
const DOOR: &str = "peers";
/// The view that each process has a share of.
const REPLICAS: &str = "replicas";

/// What the processes of a cluster prove themselves to each other with.
pub type Token = Arc<[u8]>;

/// The epochs of this process, with the replicas of all.
pub struct Peers {
    publisher: Arc<Publisher>,
    process: usize,
    token: Token,
}

impl Peers {
    /// Of this `process`, which publishes to `publisher`.
    pub fn new(publisher: Arc<Publisher>, process: usize, token: Token) -> Self {
        Self {
            publisher,
            process,
            token,
        }
    }

    /// Every other process, with the replicas that it has as of `epoch`.
    fn others(
        &self,
        here: &Arc<dyn Table>,
        published: &Published,
        deadline: Instant,
    ) -> Result<Vec<Arc<dyn Table>>, Unread> {
        let addresses = self.publisher.addresses();
        let others = (0..self.publisher.processes()).filter(|process| *process != self.process);
        let tables = others.map(|process| {
            let address = addresses.get(&process).ok_or_else(|| {
                Unread(format!(
                    "process {process} has not said yet where its replicas are; ask again in a moment"
                ))
            })?;
            let remote = Remote::hold(
                process,
                address,
                &self.token,
                published.epoch,
                here.schema(),
                deadline,
            )?;
            Ok(Arc::new(remote) as Arc<dyn Table>)
        });
        tables.collect()
    }
}

impl Epochs for Peers {
    fn newest(&self) -> Option<Arc<Published>> {
        let newest = self.publisher.newest()?;
        if !newest.tables.contains_key(REPLICAS) {
            return Some(newest);
        }
        // Those of this process alone, which nobody asks for.
        let mut whole = Published::clone(&newest);
        whole.tables.remove(REPLICAS);
        Some(Arc::new(whole))
    }

    fn with_replicas(&self, patience: Duration) -> Result<Option<Arc<Published>>, Unread> {
        let deadline = Instant::now() + patience;
        let Some(published) = self.publisher.with_replicas(patience) else {
            return Ok(None);
        };
        let Some(here) = published.tables.get(REPLICAS) else {
            return Ok(None);
        };
        let mut shares = vec![Arc::clone(here)];
        shares.extend(self.others(here, &published, deadline)?);
        let mut whole = Published::clone(&published);
        whole
            .tables
            .insert(REPLICAS, Arc::new(Chained(here.schema(), shares)));
        Ok(Some(Arc::new(whole)))
    }
}
