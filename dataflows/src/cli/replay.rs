//! `dbb replay LOG...`: views and an archive of recorded events.

use super::{Exit, exit::Told, logging, output, rows};
use crate::{
    config::Log,
    replay::{self, ArchiveOptions, Format, Hosts, ReplayOptions},
    views::{self, Name},
};
use arrow::{
    array::RecordBatch,
    datatypes::Schema,
    util::display::{ArrayFormatter, FormatOptions},
};
use clap::Args;
use dbb_events::Micros;
use dbb_operators::views::placement::{self, Policy};
use dbb_serving::{secret::SecretPlace, sql::Engine};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    sync::Arc,
    thread,
};

/// Arguments of `dbb replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Recorded events: files, folders or `-` for standard input; plain, gzip, zstd or Parquet
    #[arg(value_name = "LOG", required_unless_present_any = ["journal", "listing"])]
    logs: Vec<PathBuf>,
    /// A change journal of Rucio's table of replicas; may be repeated
    #[arg(long, value_name = "FILE")]
    journal: Vec<PathBuf>,
    /// A listing of replicas or of a dataset's contents, with its time where the file does not tell it
    #[arg(long, value_name = "FILE[@TIME]", value_parser = listing)]
    listing: Vec<(PathBuf, Option<Micros>)>,
    /// A view to make; may be repeated [default: replicas and rse_usage; for --sql all]
    #[arg(long = "view", value_name = "NAME")]
    views: Vec<String>,
    /// Where copies must be, for the view `placement`: a YAML list of policies, as a configuration has them
    #[arg(long, value_name = "FILE")]
    policies: Option<PathBuf>,
    /// The folder for the views, a file each
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The form of the views' files
    #[arg(long, value_name = "FORMAT", default_value = "ndjson")]
    format: Format,
    /// A question about the views at the end, whose answer is printed: `select rse, files from rse_usage`
    #[arg(long, value_name = "STATEMENT")]
    sql: Option<String>,
    /// The folder for the distinct events themselves, by RSE; one that holds an archive already is refused
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
    /// Replace the archive that is there, once the new one is complete
    #[arg(long, requires = "archive")]
    archive_replace: bool,
    /// Most events in a file of the archive
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    archive_rows: u32,
    /// The form of the archive's files
    #[arg(long, value_name = "FORMAT", default_value = "parquet")]
    archive_format: Format,
    /// Threads that read [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,
    /// Leave out what is later than this, by the time it says itself
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Micros>,
    /// Exit with 1 if anything was wrong with the input
    #[arg(long)]
    strict: bool,
    /// Two changes of a replica closer than this cannot be told apart by clocks, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    clock_skew_ms: u64,
    /// Show how far it is, also where standard error is no terminal
    #[arg(long)]
    progress: bool,
    /// Run as one of several processes on the same files: a file with a line `host:port` for each
    #[arg(long, value_name = "FILE", requires = "process", hide_short_help = true)]
    hosts: Option<PathBuf>,
    /// The number of this process among the hosts, from 0; the first writes the views
    #[arg(long, value_name = "K", requires = "hosts", hide_short_help = true)]
    process: Option<usize>,
    /// The file with a secret that all processes know, where strangers could connect to them
    #[arg(long, value_name = "FILE", requires = "hosts", hide_short_help = true)]
    token_file: Option<PathBuf>,
}

/// Replays, and says on standard error what was read.
pub(super) fn replay(args: &ReplayArgs) -> anyhow::Result<Exit> {
    logging::start(&Log::default());
    let options = options(args)?;
    crate::runtime::panic::ends_the_process();
    let replayed = replay::run(&options)?;
    if let (Some(statement), Some(views)) = (&args.sql, &replayed.views) {
        let (schema, batches) = Engine::run_once(statement, Arc::clone(views))?;
        output::print(&table(&schema, &batches)?)?;
    }
    // Nothing is left to tell of a standard error that cannot be written.
    let _ = io::stderr().lock().write_all(replayed.report.told().as_bytes());
    Ok(if args.strict && !replayed.report.findings.is_empty() {
        Exit::Problems
    } else {
        Exit::Ok
    })
}

fn options(args: &ReplayArgs) -> anyhow::Result<ReplayOptions> {
    let workers = args.workers.map(usize::from);
    Ok(ReplayOptions {
        logs: args.logs.clone(),
        journals: args.journal.clone(),
        listings: args.listing.clone(),
        views: wanted(args)?,
        policies: policies(args)?.into(),
        out: args.out.clone(),
        format: args.format,
        archive: args.archive.as_ref().map(|folder| ArchiveOptions {
            folder: folder.clone(),
            replaces: args.archive_replace,
            rows: args.archive_rows as usize,
            format: args.archive_format,
        }),
        workers: workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)),
        hosts: hosts(args)?,
        token: token(args)?,
        until: args.until,
        clock_skew_ms: args.clock_skew_ms,
        progress: args.progress || io::stderr().is_terminal(),
    })
}

/// The views that are asked for by name, or else those that make sense.
fn wanted(args: &ReplayArgs) -> anyhow::Result<BTreeSet<Name>> {
    let views = views::parse(args.views.iter().map(String::as_str))
        .map_err(|unknown| Told::new(Exit::Usage, unknown.to_string(), unknown.hint))?;
    if let Some(name) = views.iter().find(|name| !name.in_replay()) {
        let message = format!("a replay cannot make the view `{name}`");
        let hint = "it is made of what only a running site knows: ask that with `dbb sql`";
        return Err(Told::new(Exit::Usage, message, hint).into());
    }
    if args.policies.is_none()
        && let Some(name) = views.iter().find(|name| name.needs_policies())
    {
        let message = format!("the view `{name}` compares with policies, and there are none");
        return Err(Told::new(Exit::Usage, message, "give a file with --policies").into());
    }
    if !views.is_empty() && args.out.is_none() && args.sql.is_none() {
        let message = "views are to be made, and nothing says where to";
        return Err(Told::new(
            Exit::Usage,
            message,
            "give a folder with --out, or ask with --sql",
        )
        .into());
    }
    let possible = |name: &Name| name.in_replay() && (args.policies.is_some() || !name.needs_policies());
    Ok(match (&args.sql, &args.out) {
        _ if !views.is_empty() => views,
        // What the statement asks of is known when it is planned, which needs the views.
        (Some(_), _) => Name::ALL.into_iter().filter(possible).collect(),
        (None, Some(_)) => BTreeSet::from([Name::Replicas, Name::RseUsage]),
        (None, None) => views,
    })
}

/// An answer in SQL as an aligned table.
fn table(schema: &Schema, batches: &[RecordBatch]) -> anyhow::Result<String> {
    let header: Vec<&str> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    let numeric = |at: &usize| schema.field(*at).data_type().is_numeric();
    let numbers: Vec<usize> = (0..header.len()).filter(numeric).collect();
    let options = FormatOptions::default().with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.6fZ"));
    let mut lines = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options))
            .collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            let cells = columns
                .iter()
                .map(|column| rows::shown(&column.value(row).to_string()));
            lines.push(cells.collect());
        }
    }
    Ok(output::table(&header, lines, &numbers))
}

fn policies(args: &ReplayArgs) -> anyhow::Result<Vec<Policy>> {
    let Some(path) = &args.policies else {
        return Ok(Vec::new());
    };
    let wrong = |message: String| {
        let message = format!("{}: {message}", path.display());
        Told::new(
            Exit::Configuration,
            message,
            "docs/views.md shows what policies look like",
        )
    };
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let policies: Vec<Policy> =
        serde_saphyr::from_str(dbb_events::without_mark(&text)).map_err(|error| wrong(error.to_string()))?;
    placement::check(&policies).map_err(|error| wrong(error.to_string()))?;
    Ok(policies)
}

fn hosts(args: &ReplayArgs) -> anyhow::Result<Option<Hosts>> {
    let (Some(path), Some(process)) = (&args.hosts, args.process) else {
        return Ok(None);
    };
    Ok(Some(Hosts::read(path, process)?))
}

fn token(args: &ReplayArgs) -> anyhow::Result<Vec<u8>> {
    let place = args.token_file.clone().map(SecretPlace::File);
    let token = place.map(|place| place.read("the token")).transpose()?;
    Ok(token.map(|token| token.expose().into()).unwrap_or_default())
}

/// A path and, after its last `@`, a time; a path may have an `@` of its own.
fn listing(text: &str) -> Result<(PathBuf, Option<Micros>), String> {
    match text.rsplit_once('@') {
        Some((path, at)) if !PathBuf::from(text).exists() => Ok((path.into(), Some(time(at)?))),
        _ => Ok((text.into(), None)),
    }
}

fn time(text: &str) -> Result<Micros, String> {
    Micros::parse(text).ok_or_else(|| "not a time such as 2026-11-21T19:14:49.938629Z".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_has_its_time_after_the_path() {
        let at = Micros::parse("2026-11-21T19:14:49Z");
        assert_eq!(listing("a@b/c@2026-11-21T19:14:49Z"), Ok(("a@b/c".into(), at)));
        assert_eq!(listing("a/b"), Ok(("a/b".into(), None)));
        assert!(listing("a@yesterday").is_err());
    }
}
