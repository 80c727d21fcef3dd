//! Runs a command with a private PostgreSQL server, and ends that when the command has ended.
//!
//! ```text
//!   with_postgres COMMAND ARGUMENT...      `{postgres}` in an argument becomes the server's URL
//! ```

use anyhow::{Context, Result};
use dbb_test_services::Postgres;
use std::process::{Command, ExitCode};

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments
        .next()
        .context("usage: with_postgres COMMAND ARGUMENT...")?;
    let postgres = Postgres::start()?;
    let url = postgres.url("postgres");
    let arguments = arguments.map(|argument| match argument.into_string() {
        Ok(text) => text.replace("{postgres}", &url).into(),
        Err(argument) => argument,
    });
    let status = Command::new(&program)
        .args(arguments)
        .status()
        .with_context(|| format!("could not start {}", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
