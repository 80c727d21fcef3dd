//! `chaos`: rounds of faults over a site of several processes. The last line says what came of it.
//!
//! `--rounds 500`, `--processes 2`, `--files 4` (a round), `--seed 7` (or the environment variable `SEED`), `--dbb PATH`.

use anyhow::{Context, Result, bail};
use dbb_tests::chaos::{Options, run};
use std::{
    env,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

fn main() -> Result<ExitCode> {
    let options = read()?;
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

fn read() -> Result<Options> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let beside = env::current_exe()?.with_file_name("dbb_under_test");
    let mut options = Options {
        program: beside.display().to_string(),
        rounds: 500,
        processes: 2,
        seed: seed.unwrap_or(now.as_millis() as u64),
        files: 4,
    };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--rounds" => options.rounds = value.parse()?,
            "--processes" => options.processes = value.parse()?,
            "--files" => options.files = value.parse()?,
            "--seed" => options.seed = value.parse()?,
            "--dbb" => options.program = value,
            _ => bail!("unknown option {word}"),
        }
    }
    Ok(options)
}
