//! `attack`: everything a stranger, a client or a statement can do to a running site. The last line says what came of it.

use anyhow::Result;
use clap::Parser;
use dbb_tests::attack::{Options, run};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    env,
    path::PathBuf,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

/// Everything a stranger, a client or a statement can do to a running site: the last line says how many cases, deaths, wrong
/// outcomes, and how memory and times went. It ends with 1 if anything is amiss.
#[derive(Parser)]
struct Arguments {
    /// Seconds for each case, and times are printed, not judged: for a build that is not optimised.
    #[arg(long)]
    short: bool,
    /// What chance goes by; of the clock where it is not given.
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
    /// Only cases whose name begins with this: `frames`, `doors`, `memory`, `statements`, `floods`, `ports`.
    #[arg(long)]
    only: Option<String>,
    /// The program; by default the `dbb_under_test` beside this one.
    #[arg(long)]
    dbb: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let beside = env::current_exe()?.with_file_name("dbb_under_test");
    let options = Options {
        program: arguments.dbb.unwrap_or(beside).display().to_string(),
        short: arguments.short,
        seed: arguments.seed.unwrap_or(now.as_millis() as u64),
        only: arguments.only,
    };
    println!("SEED={}", options.seed);
    // A thousand connections are held at once.
    let files = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: files.maximum,
        ..files
    };
    setrlimit(Resource::Nofile, raised)?;
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
