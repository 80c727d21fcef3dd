//! `dbb config schema|reference`: what a configuration may say.

use super::{Exit, output};
use crate::config::reference;
use clap::{Args, Subcommand};

/// Arguments of `dbb config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The JSON Schema, for editors
    Schema,
    /// All keys with their meanings, in Markdown
    Reference,
}

/// Prints it.
pub(super) fn config(args: &ConfigArgs) -> anyhow::Result<Exit> {
    match args.what {
        What::Schema => output::json(&reference::schema())?,
        What::Reference => output::print(&reference::markdown())?,
    }
    Ok(Exit::Ok)
}
