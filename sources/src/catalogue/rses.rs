//! The names of RSEs by their ids, asked for again when an id is new.

use super::connect::unreachable;
use crate::SourceError;
use postgres::Client;
use std::collections::HashMap;

/// What the table `rses` says.
pub(super) struct Rses<'c> {
    client: &'c mut Client,
    statement: String,
    names: HashMap<String, String>,
}

impl<'c> Rses<'c> {
    pub(super) fn read(client: &'c mut Client, schema: &str) -> Result<Self, SourceError> {
        let mut rses = Self {
            client,
            statement: format!("SELECT id::text, rse::text FROM {schema}.rses"),
            names: HashMap::new(),
        };
        rses.again().map_err(|e| unreachable(&e))?;
        Ok(rses)
    }

    /// The name; `None` where the table has none.
    pub(super) fn name(&mut self, id: &str) -> Option<String> {
        if !self.names.contains_key(id)
            && let Err(error) = self.again()
        {
            tracing::warn!(%error, "the table of RSEs could not be read again");
        }
        self.names.get(id).cloned()
    }

    /// All names that are known, by id.
    pub(super) fn names(&self) -> HashMap<String, String> {
        self.names.clone()
    }

    /// The session, for other questions.
    pub(super) fn client(&mut self) -> &mut Client {
        self.client
    }

    fn again(&mut self) -> Result<(), postgres::Error> {
        for row in self.client.query(self.statement.as_str(), &[])? {
            self.names.insert(row.get(0), row.get(1));
        }
        Ok(())
    }
}
