//! The names of RSEs by their ids, looked at again from time to time and when an id is new.
//!
//! A name that two virtual organisations share is two things: each is called `NAME@ORGANISATION`. An id without a name
//! is called by itself, until it has one.

use super::connect::unreachable;
use crate::SourceError;
use postgres::Client;
use std::collections::{BTreeSet, HashMap};

/// What the table `rses` says.
pub(super) struct Rses<'c> {
    client: &'c mut Client,
    statement: String,
    names: HashMap<String, String>,
    /// Ids that were asked for and have no name.
    nameless: BTreeSet<String>,
}

impl<'c> Rses<'c> {
    pub(super) fn read(client: &'c mut Client, schema: &str) -> Result<Self, SourceError> {
        let mut rses = Self {
            client,
            // Tables of older versions have no organisations.
            statement: format!("SELECT id::text, rse::text, to_jsonb(r) ->> 'vo' FROM {schema}.rses r"),
            names: HashMap::new(),
            nameless: BTreeSet::new(),
        };
        rses.names = rses.table().map_err(|e| unreachable(&e))?;
        Ok(rses)
    }

    /// The name.
    pub(super) fn name(&mut self, id: &str) -> String {
        if let Some(name) = self.names.get(id) {
            return name.clone();
        }
        if self.nameless.contains(id) {
            return id.to_owned();
        }
        match self.table() {
            Ok(names) => {
                // One that was renamed is found by the next look, which begins anew.
                for (id, name) in names {
                    self.names.entry(id).or_insert(name);
                }
            }
            Err(error) => tracing::warn!(%error, "the table of RSEs could not be read again"),
        }
        self.named(id)
    }

    /// The name as far as it is known now.
    pub(super) fn named(&mut self, id: &str) -> String {
        match self.names.get(id) {
            Some(name) => name.clone(),
            None => {
                if self.nameless.insert(id.to_owned()) {
                    tracing::warn!(
                        rse_id = id,
                        "an RSE is in `replicas` and not in `rses`: it goes by its id"
                    );
                }
                id.to_owned()
            }
        }
    }

    /// Looks at the table again: what has another name now than the one under which it was told, as a sentence.
    pub(super) fn renamed(&mut self) -> Result<Option<String>, SourceError> {
        let names = self.table().map_err(|e| unreachable(&e))?;
        let renamed = self.names.iter().find_map(|(id, name)| match names.get(id) {
            Some(now) if now != name => Some(format!("RSE `{name}` is now called `{now}`")),
            _ => None,
        });
        let found = self.nameless.iter().find_map(|id| {
            let now = names.get(id)?;
            Some(format!("RSE {id} is now called `{now}`"))
        });
        self.names.extend(names);
        Ok(renamed.or(found))
    }

    /// All names that are known, by id.
    pub(super) fn names(&self) -> HashMap<String, String> {
        self.names.clone()
    }

    /// The session, for other questions.
    pub(super) fn client(&mut self) -> &mut Client {
        self.client
    }

    fn table(&mut self) -> Result<HashMap<String, String>, postgres::Error> {
        let rows = self.client.query(self.statement.as_str(), &[])?;
        let rows = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
            .collect::<Result<Vec<(String, String, Option<String>)>, postgres::Error>>()?;
        Ok(unique(rows))
    }
}

/// Names by id, with the organisation where others have the same name.
fn unique(rows: Vec<(String, String, Option<String>)>) -> HashMap<String, String> {
    let mut shared: HashMap<String, u32> = HashMap::new();
    for (_, name, _) in &rows {
        *shared.entry(name.clone()).or_default() += 1;
    }
    rows.into_iter()
        .map(|(id, name, vo)| match (shared.get(&name), vo) {
            (Some(1) | None, _) => (id, name),
            (_, Some(vo)) => (id, format!("{name}@{vo}")),
            (_, None) => {
                let name = format!("{name}@{id}");
                (id, name)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_two_organisations_share_is_two_things() {
        let row =
            |id: &str, name: &str, vo: Option<&str>| (id.to_owned(), name.to_owned(), vo.map(str::to_owned));
        let names = unique(vec![
            row("1", "DISK", Some("def")),
            row("2", "DISK", Some("abc")),
            row("3", "TAPE", Some("abc")),
            row("4", "OLD", None),
        ]);
        let told: BTreeSet<&str> = names.values().map(String::as_str).collect();
        assert_eq!(told, BTreeSet::from(["DISK@abc", "DISK@def", "OLD", "TAPE"]));
    }
}
