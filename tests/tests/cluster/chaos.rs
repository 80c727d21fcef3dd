//! Each fault once; `make chaos` does hundreds.

use crate::DBB;
use anyhow::{Result, ensure};
use dbb_tests::chaos::{EACH_ONCE, Options, run};
use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

#[test]
fn whatever_breaks_nothing_is_lost_twice_wrong_or_hung() -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let seed = env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let findings = run(&Options {
        program: DBB.into(),
        rounds: EACH_ONCE,
        processes: 2,
        seed: seed.unwrap_or(now),
        files: 4,
    })?;
    println!("{findings}");
    let sentences: Vec<String> = findings.sentences().collect();
    ensure!(findings.is_clean(), "{findings}\n{}", sentences.join("\n"));
    Ok(())
}
