//! How the catalogue is reached.

use super::CatalogueSettings;
use crate::{SourceError, database::Database};
use dbb_database::Kept;
use postgres::Client;

fn database(settings: &CatalogueSettings) -> Database<'_> {
    Database {
        url: &settings.url,
        password_file: settings.password_file.as_deref(),
        ca_file: settings.ca_file.as_deref(),
        ..NAMES
    }
}

const NAMES: Database<'static> = Database {
    section: "source.catalogue",
    what: "the catalogue's database",
    url: "",
    password_file: None,
    ca_file: None,
};

/// A session with the catalogue's database.
pub(super) fn connect(settings: &CatalogueSettings) -> Result<Client, SourceError> {
    database(settings).connect()
}

/// How sessions with the catalogue's database are kept.
///
/// # Errors
///
/// It cannot be reached, or a pooler is in between that does not keep sessions.
pub fn check(settings: &CatalogueSettings) -> Result<Kept, SourceError> {
    database(settings).kept()
}

/// An error of the database, as one of a source.
pub(super) fn unreachable(error: &postgres::Error) -> SourceError {
    NAMES.unreachable(error)
}

/// Settings that cannot work.
pub(super) fn wrong(why: &str) -> SourceError {
    NAMES.wrong(why)
}
