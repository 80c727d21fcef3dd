//! `dbb demo`: a site from nothing to proof.

use clap::Args;
use std::{path::PathBuf, process::ExitCode};

/// Arguments of `dbb demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// A Python that has lsst.daf.butler
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Where to make the site: a folder that is empty or not there yet; by default a temporary one
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Publish the events to these brokers and read them from there
    #[arg(long, value_name = "HOST:PORT,...")]
    kafka: Option<String>,
    /// Good files, beside the planted faults
    #[arg(long, default_value_t = 300, value_name = "N")]
    files: usize,
    /// Keep the temporary folder
    #[arg(long)]
    keep: bool,
}

/// Makes a site, runs `dbb` on it, and proves what came of it.
pub(super) fn demo(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let DemoArgs {
        python,
        dir,
        kafka,
        files,
        keep,
    } = args;
    crate::demo::demo(crate::demo::DemoOptions {
        python,
        dir,
        kafka,
        files,
        keep,
    })
}
