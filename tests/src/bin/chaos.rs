//! `chaos`: rounds of faults over a site of several processes. The last line says what came of it.

use anyhow::Result;
use clap::Parser;
use dbb_tests::chaos::{Options, run};
use std::{
    env,
    path::PathBuf,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

/// Rounds of faults over a site of several processes: the last line says how many rounds, and what was lost, done twice,
/// wrong, or hung. It ends with 1 unless all of these are 0.
#[derive(Parser)]
struct Arguments {
    /// How many faults, one a round.
    #[arg(long, default_value_t = 500)]
    rounds: usize,
    /// Processes of the cluster.
    #[arg(long, default_value_t = 2)]
    processes: usize,
    /// New files in each round.
    #[arg(long, default_value_t = 4)]
    files: usize,
    /// What chance goes by; of the clock where it is not given.
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
    /// The program, built with the fault points; by default the `dbb_under_test` beside this one.
    #[arg(long)]
    dbb: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let options = Arguments::parse().options()?;
    println!("SEED={}", options.seed);
    let findings = run(&options)?;
    for sentence in findings.sentences() {
        println!("{sentence}");
    }
    println!("{findings}");
    Ok(if findings.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Arguments {
    fn options(self) -> Result<Options> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let beside = env::current_exe()?.with_file_name("dbb_under_test");
        Ok(Options {
            program: self.dbb.unwrap_or(beside).display().to_string(),
            rounds: self.rounds,
            processes: self.processes,
            seed: self.seed.unwrap_or(now.as_millis() as u64),
            files: self.files,
        })
    }
}
