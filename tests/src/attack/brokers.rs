//! Brokers that mean harm, and a `dbb` that reads them: alive, and no larger than the settings allow.

use super::memory::{Most, resident_mib};
use anyhow::{Result, ensure};
use dbb_test_services::{Harm, Program, StompStub, scratch};
use serde_json::json;
use std::{fs, thread, time::Duration};

/// What the reader may hold of a broker, in MiB, and the longest message.
const IN_FLIGHT: u64 = 8;
const LONGEST: u64 = 1;
/// What it may grow beyond that, in MiB.
const SLACK: u64 = 64;

/// All that a broker can do.
pub(super) const HARMS: [Harm; 7] = [
    Harm::DeclaredGigabyte,
    Harm::EndlessBody,
    Harm::EndlessHead,
    Harm::EndlessMessages,
    Harm::PaddedMessages,
    Harm::LongNames,
    Harm::EndlessBeats,
];

/// What is wrong after a broker has done this for a while.
pub(super) fn flood(program: &str, harm: Harm, hold: Duration) -> Result<Vec<String>> {
    let stub = StompStub::start(harm)?;
    let folder = scratch("flood")?;
    let config = json!({
        "source": {"stomp": {
            "brokers": [format!("127.0.0.1:{}", stub.port())], "destination": "/topic/harm",
            "max_in_flight_bytes": IN_FLIGHT << 20, "max_message_bytes": LONGEST << 20,
        }},
        "record": {},
    });
    // JSON is YAML.
    fs::write(folder.path().join("dbb.yaml"), config.to_string())?;
    let mut dbb = Program::new(program, folder.path().join("log"))
        .args([
            "record",
            "dbb.yaml",
            "--out",
            "recorded",
            "--max-file-seconds",
            "1",
        ])
        .current_dir(folder.path())
        .start()?;
    while stub.sent() == 0 && dbb.is_running() {
        thread::sleep(Duration::from_millis(20));
    }
    let before = resident_mib(dbb.id())?;
    let most = Most::of(dbb.id());
    thread::sleep(hold);
    let grown = most.take().saturating_sub(before);
    let mut wrong = Vec::new();
    let allowed = IN_FLIGHT + 3 * LONGEST + SLACK;
    if grown > allowed {
        wrong.push(format!("memory grew by {grown} MiB of {allowed}"));
    }
    if let Err(error) = dbb.ensure_running() {
        wrong.push(format!("it has ended: {error:#}"));
    } else {
        ensure!(stub.sent() > 0, "the broker got rid of nothing");
        dbb.kill()?;
    }
    println!("  grown by {grown} MiB, {} MiB sent", stub.sent() >> 20);
    Ok(wrong)
}
