//! `dbb record CONFIG --out DIR`: the configured source as files, which `dbb replay` reads. `dbb record CONFIG
//! --to-kafka`: what can be read only once into a topic, which can be read as often as one likes.
//!
//! Files are read from Kafka beside a running site, and nothing of it is moved: a group of its own for each folder, whose
//! offsets follow what is complete in the folder; the folder itself says what that is. A message broker and an outbox have
//! one reader, which this then is: they hear that a message is handled when it is in a complete file, or confirmed by
//! all brokers of the topic.

mod target;

use super::{ConfigFile, Exit, exit::Told, logging, output};
use crate::config::{Config, Loaded};
use clap::{Args, ValueEnum};
use dbb_sources::{
    Extent, OffsetStore, Offsets, Partition, Polled, Source, SourceError,
    kafka::{self, Start},
    log, outbox,
    record::{RecordFormat, RecordSettings, Recorder},
    stomp,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use target::{Target, Topic};

/// Records polled before anything else is looked at.
const POLL: usize = 1024;

/// Longest that a signal, or the end of a file, waits to be noticed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Arguments of `dbb record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// The folder to write to, for one source; a second run goes on where the first ended
    #[arg(long, value_name = "DIR", required_unless_present = "to_kafka")]
    out: Option<PathBuf>,
    /// Publish to the topic that the section `record` names, each record with its DID as key; what the topic does not
    /// take goes to DIR. For message brokers and outboxes
    #[arg(long)]
    to_kafka: bool,
    /// How the files are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Stop when nothing new has come for so long
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "for_seconds")]
    until_idle: Option<Duration>,
    /// Stop after so long
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    for_seconds: Option<Duration>,
    /// Begin a new file when one has so many MiB
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
    max_file_mib: u64,
    /// Begin a new file after so long: only what is in complete files is recorded for good
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    max_file_seconds: Duration,
}

/// How the files are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines of JSON, zstd
    #[default]
    Ndjson,
    /// Columns: topic, partition, offset, appended_at, value
    Parquet,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Records until told to stop, or as long as the arguments say.
pub(super) fn record(args: &RecordArgs) -> anyhow::Result<Exit> {
    let Loaded { config, warnings, .. } = args.file.load()?;
    logging::start(&config.log);
    logging::warn_of(&warnings);
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // A second one ends the process at once.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))?;
        signal_hook::flag::register(signal, Arc::clone(&asked))?;
    }
    let recorder = args.out.as_ref().map(|out| {
        Recorder::open(RecordSettings {
            folder: out.clone(),
            format: match args.format {
                Format::Ndjson => RecordFormat::Ndjson,
                Format::Parquet => RecordFormat::Parquet,
            },
            max_file_bytes: args.max_file_mib.saturating_mul(1024 * 1024),
            max_file_age: args.max_file_seconds,
        })
    });
    let recorder = recorder.transpose()?;
    let (source, target): (_, Box<dyn Target>) = match recorder {
        recorder if args.to_kafka => {
            let source = once(&config, &Offsets::new())?.ok_or_else(|| {
                let hint = "`--to-kafka` is for `source.stomp` and `source.outbox`";
                Told::new(Exit::Usage, "this source can be read again as it is", hint)
            })?;
            let stop = Arc::new(AtomicBool::new(false));
            let patience = Duration::from_secs(config.shutdown.drain_seconds);
            give_up(Arc::clone(&asked), Arc::clone(&stop), patience);
            (source, Box::new(Topic::open(&config.record, stop, recorder)?))
        }
        Some(recorder) => (open(&config, &recorder)?, Box::new(recorder)),
        // The command line wants one of the two.
        None => return Ok(Exit::Usage),
    };
    let mut run = Run {
        source,
        target,
        emitted: BTreeSet::new(),
        repeats: 0,
        faults: 0,
    };
    let limits = Limits {
        until_idle: args.until_idle,
        for_seconds: args.for_seconds,
    };
    run.read(&limits, &asked)?;
    run.tell()
}

/// Sets `stop` when `asked` has been set for `patience`: then no broker is waited for any longer.
fn give_up(asked: Arc<AtomicBool>, stop: Arc<AtomicBool>, patience: Duration) {
    thread::spawn(move || {
        while !asked.load(Relaxed) {
            thread::sleep(LOOK_EVERY);
        }
        thread::sleep(patience);
        stop.store(true, Relaxed);
    });
}

struct Limits {
    until_idle: Option<Duration>,
    for_seconds: Option<Duration>,
}

struct Run {
    source: Box<dyn Source>,
    target: Box<dyn Target>,
    /// What the source has emitted from: it is told of these only.
    emitted: BTreeSet<Partition>,
    repeats: u64,
    faults: u64,
}

impl Run {
    fn read(&mut self, limits: &Limits, asked: &AtomicBool) -> anyhow::Result<()> {
        let (ring, rung) = crossbeam_channel::bounded(1);
        self.source.set_waker(Arc::new(move || {
            // Full: it is about to wake anyway.
            let _ = ring.try_send(());
        }));
        let (start, mut newest) = (Instant::now(), Instant::now());
        let mut batch = Vec::with_capacity(POLL);
        let ended = loop {
            let enough = limits.for_seconds.is_some_and(|limit| start.elapsed() >= limit);
            if asked.load(Relaxed) || enough {
                break Ok(());
            }
            let polled = match self.source.poll(&mut batch, POLL) {
                Err(error) if error.is_partial() => {
                    let reason = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, reason, "a part of the source is given up, the rest goes on");
                    self.faults += 1;
                    continue;
                }
                Err(error) => break Err(error),
                Ok(polled) => polled,
            };
            if !batch.is_empty() || !self.source.caught_up() {
                newest = Instant::now();
            }
            for record in batch.drain(..) {
                let partition = Partition {
                    stream: record.place.stream.clone(),
                    partition: record.place.partition,
                };
                if !self.emitted.contains(&partition) {
                    self.emitted.insert(partition);
                }
                self.repeats += u64::from(!self.target.write(&record)?);
            }
            let complete = self.target.settle()?;
            self.ack(complete)?;
            match polled {
                Polled::More => {}
                Polled::Finished => break Ok(()),
                Polled::Idle => {
                    if limits.until_idle.is_some_and(|limit| newest.elapsed() >= limit) {
                        break Ok(());
                    }
                    // Nobody ringing for so long is the other way to wake.
                    let _ = rung.recv_timeout(LOOK_EVERY);
                }
            }
        };
        // What was read before an error counts.
        let complete = self.target.complete()?;
        ended?;
        self.ack(complete)?;
        self.source.flush()?;
        Ok(())
    }

    fn ack(&mut self, complete: Option<Offsets>) -> Result<(), SourceError> {
        let Some(mut offsets) = complete else {
            return Ok(());
        };
        offsets.retain(|partition, _| self.emitted.contains(partition));
        match self.source.ack(&offsets) {
            // The folder knows: what is read again is left out.
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "offsets are not stored");
                Ok(())
            }
            other => other,
        }
    }

    fn tell(&self) -> anyhow::Result<Exit> {
        let (mut text, problems) = self.target.told();
        let counts = [
            (self.repeats, "were there already"),
            (self.faults, "parts of the source were unreadable"),
        ];
        for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
            text += &format!(", {count} {what}");
        }
        output::print(&format!("{text}\n"))?;
        let problems = problems || self.faults > 0;
        Ok(if problems { Exit::Problems } else { Exit::Ok })
    }
}

/// Opens the source where the folder ends.
fn open(config: &Config, recorder: &Recorder) -> anyhow::Result<Box<dyn Source>> {
    let extent = Extent::default();
    let sources = if let Some(settings) = &config.source.kafka {
        let mut settings = settings.clone();
        settings.group_id = format!("{}-record-{}", settings.group_id, recorder.id());
        if !recorder.is_new() {
            // Where the group has forgotten its offsets the folder has not.
            settings.start = Start::Earliest;
        }
        kafka::open(&settings, 0..1, 1, extent)?.0
    } else if let Some(settings) = &config.source.log {
        log::open(settings, 0..1, 1, Arc::new(Folder(recorder.offsets())), extent)?
    } else {
        once(config, &recorder.offsets())?.into_iter().collect()
    };
    sources.into_iter().next().ok_or_else(|| {
        let hint = "name one under `source`";
        Told::new(Exit::Configuration, "the configuration names no source", hint).into()
    })
}

/// Opens a source that gives each event once, above the offsets that are `known`; `None` if it is another.
fn once(config: &Config, known: &Offsets) -> Result<Option<Box<dyn Source>>, SourceError> {
    let extent = Extent::default();
    let sources = if let Some(settings) = &config.source.stomp {
        stomp::open(settings, 0..1, 1, extent, known)?.0
    } else if let Some(settings) = &config.source.outbox {
        outbox::open(settings, 0..1, &extent, known)?.0
    } else {
        Vec::new()
    };
    Ok(sources.into_iter().next())
}

/// What the folder has, for a source that stores nothing itself.
struct Folder(Offsets);

impl OffsetStore for Folder {
    fn load(&self) -> Result<Offsets, String> {
        Ok(self.0.clone())
    }

    fn store(&self, _: &Offsets) -> Result<(), String> {
        // The folder knows already.
        Ok(())
    }
}
