//! Runs a command with a real Kafka of its own, and ends that when the command has ended.
//!
//! ```text
//!   with_kafka COMMAND ARGUMENT...      `{brokers}` in an argument becomes host:port
//! ```

use anyhow::{Context, Result};
use dbb_test_services::Kafka;
use std::process::{Command, ExitCode};

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments
        .next()
        .context("usage: with_kafka COMMAND ARGUMENT...")?;
    let kafka = Kafka::start()?;
    let brokers = kafka.bootstrap();
    let arguments = arguments.map(|argument| match argument.into_string() {
        Ok(text) => text.replace("{brokers}", &brokers).into(),
        Err(argument) => argument,
    });
    let status = Command::new(&program)
        .args(arguments)
        .status()
        .with_context(|| format!("could not start {}", program.display()))?;
    Ok(ExitCode::from(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(1),
    ))
}
