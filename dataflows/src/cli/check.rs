//! `dbb check CONFIG [--connect] [LOG...]`: a list of ticks, from the file to the services to recorded events.

mod connect;
mod labels;
mod published;
mod recorded;

use super::{ConfigFile, Exit, output};
use crate::{
    config::{Config, Form, Loaded},
    runtime::files,
};
use clap::Args;
use dbb_operators::views::reference;
use std::{fmt::Write as _, path::PathBuf};

/// Arguments of `dbb check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Try what it names: brokers, Rucio and Butlers with their versions, topics, labels, databases, folders
    #[arg(long)]
    connect: bool,
    /// With --connect, at a hub: the file whose labels are read; without it that of the newest event of a landing
    #[arg(long, value_name = "SCOPE:NAME", requires = "connect")]
    did: Option<String>,
    /// Recorded events, files or folders: say what could not be routed
    #[arg(value_name = "LOG")]
    logs: Vec<PathBuf>,
}

/// Looks at everything asked for, and goes on after what is wrong.
pub(super) fn check(args: &CheckArgs) -> anyhow::Result<Exit> {
    let loaded = args.file.load()?;
    let mut ticks = Ticks::default();
    facts(&loaded, &mut ticks);
    if args.connect {
        let did = args.did.as_deref().map(super::hub::parse).transpose()?;
        connect::connect(&loaded.config, did.as_ref(), &mut ticks);
    }
    if !args.logs.is_empty() {
        recorded::recorded(&loaded.config, &args.logs, &mut ticks)?;
    }
    output::print(&ticks.text)?;
    Ok(ticks.exit())
}

/// The list, as it grows.
#[derive(Debug, Default)]
pub(super) struct Ticks {
    text: String,
    problems: bool,
    unreachable: bool,
}

impl Ticks {
    /// A line for something that is well.
    fn good(&mut self, what: impl AsRef<str>) {
        self.line("✓", what.as_ref());
    }

    /// A line for something that someone must change.
    fn bad(&mut self, what: impl AsRef<str>) {
        self.problems = true;
        self.line("✗", what.as_ref());
    }

    /// A line for a service that does not answer.
    fn unreachable(&mut self, what: impl AsRef<str>) {
        self.unreachable = true;
        self.line("✗", what.as_ref());
    }

    /// A line for an error, and its hint.
    fn error(&mut self, what: &str, error: anyhow::Error) {
        match Exit::of(&error) {
            Exit::Unreachable => self.unreachable = true,
            _ => self.problems = true,
        }
        let message = super::exit::message(&error);
        let mut lines = message.lines();
        let first = lines.next().unwrap_or_default().trim_start_matches("error: ");
        self.line("✗", &format!("{what}: {first}"));
        for line in lines {
            self.line(" ", line.trim());
        }
    }

    /// A line for something that is probably not meant.
    fn doubt(&mut self, what: impl AsRef<str>) {
        self.line("!", what.as_ref());
    }

    /// A line that only tells.
    fn note(&mut self, what: impl AsRef<str>) {
        self.line(" ", what.as_ref());
    }

    fn line(&mut self, tick: &str, what: &str) {
        // A string cannot fail to take more.
        let _ = writeln!(self.text, "{tick} {what}");
    }

    fn exit(&self) -> Exit {
        match self {
            Ticks {
                unreachable: true, ..
            } => Exit::Unreachable,
            Ticks { problems: true, .. } => Exit::Problems,
            _ => Exit::Ok,
        }
    }
}

/// What the file says.
fn facts(loaded: &Loaded, ticks: &mut Ticks) {
    let form = match loaded.form {
        Form::Native => "",
        Form::CtrlIngestd => ", a file of ctrl_ingestd",
    };
    ticks.good(format!("configuration {}{form}", loaded.path.display()));
    for warning in &loaded.warnings {
        let hint = warning
            .hint
            .as_ref()
            .map(|hint| format!(": {hint}"))
            .unwrap_or_default();
        ticks.doubt(format!("{warning}{hint}"));
    }
    let config = &loaded.config;
    ticks.good(format!("source: {}", source(config)));
    ticks.good(format!("ledger: {}", config.ledger.shown_url()));
    for warning in config.ledger.warnings() {
        ticks.doubt(warning);
    }
    if let (_, Some(warning)) = files::fit(config, 1, files::raise()) {
        ticks.doubt(warning);
    }
    for route in &config.routes {
        let files = match (&route.rse_scope, &route.rse, &route.scope) {
            (Some(word), _, _) => word.clone(),
            (None, Some(rse), Some(scope)) => format!("{rse}-{scope}"),
            (None, rse, _) => format!("{} (any scope)", rse.as_deref().unwrap_or_default()),
        };
        ticks.good(format!("route: {files} to {}", route.repositories.join(", ")));
    }
    for (name, repository) in &config.repositories {
        ticks.good(format!("repository {name}: {}", repository.butler));
    }
    hub(config, ticks);
    views(config, ticks);
}

/// What a hub publishes, and where its labels are from.
fn hub(config: &Config, ticks: &mut Ticks) {
    let Some(hub) = &config.hub else { return };
    let topics = &hub.topics;
    ticks.good(format!(
        "hub: publishes to {} as {}, with {} and {}; what has no topic to {}",
        hub.publish.kafka.brokers.join(", "),
        topics.landed,
        topics.deletions,
        topics.files,
        topics.dead_letters
    ));
    match &hub.lookup {
        Some(lookup) => {
            let rucio = lookup
                .rucio
                .as_ref()
                .map(|rucio| format!("Rucio at {}", rucio.url));
            let documents = lookup.documents.as_ref().map(|_| "sidecar documents".into());
            let from: Vec<String> = documents.into_iter().chain(rucio).collect();
            ticks.good(format!("labels from: {}", from.join(", then ")));
        }
        None => ticks.doubt("labels are not looked up: files whose events have none are no Butler datasets"),
    }
    for embargo in &hub.embargoes {
        let partners: Vec<String> = embargo.partners.iter().map(ToString::to_string).collect();
        ticks.good(format!(
            "embargo {}: held at {}",
            embargo.name,
            partners.join(", ")
        ));
    }
    if hub.publish.sent_log.is_none() {
        ticks.doubt("hub.publish.sent_log is not set: what a site did not get is sent again only while the topic has it");
    }
}

/// Which views are kept, what each costs, and who is let in.
fn views(config: &Config, ticks: &mut Ticks) {
    let Ok(names) = config.views.names() else { return };
    if names.is_empty() {
        return;
    }
    let every = config.views.publish_ms;
    ticks.good(format!("views, published together every {every} ms:"));
    let tables: Vec<_> = names.iter().flat_map(|name| name.tables()).collect();
    for described in reference::all() {
        if tables.contains(&&described.view.name) {
            ticks.note(format!("  {}: {}", described.view.name, described.view.cost));
        }
    }
    match &config.checkpoint.url {
        Some(url) => {
            let every = config.checkpoint.every_seconds;
            ticks.good(format!("views are kept in {url}, every {every} s: a start goes on from there"));
        }
        None => ticks
            .note("  at each start they are made again from the oldest record that the source still has: checkpoint.url is not set"),
    }
    match &config.sql.listen {
        Some(listen) => {
            let tls = if config.sql.tls.is_some() {
                "with TLS"
            } else {
                "in the clear"
            };
            let users = match config.sql.users.len() {
                0 => "anyone on this host".into(),
                n => format!("{n} users"),
            };
            ticks.good(format!("SQL on {listen}, {tls}, for {users}"));
        }
        None => ticks.note("  nobody can ask for them in SQL: sql.listen is not set"),
    }
}

fn source(config: &Config) -> String {
    if let Some(kafka) = &config.source.kafka {
        return format!(
            "Kafka at {} as group {}, topics {}",
            kafka.brokers.join(", "),
            kafka.group_id,
            kafka.topics.join(", ")
        );
    }
    if let Some(stomp) = &config.source.stomp {
        return format!(
            "{} at {}, as {}",
            stomp.destination,
            stomp.brokers.join(", "),
            stomp.client_id
        );
    }
    if let Some(outbox) = &config.source.outbox {
        return format!("rows of Rucio's table of messages, {}", outbox.stream());
    }
    let paths = config.source.log.iter().flat_map(|log| &log.paths);
    format!(
        "files {}",
        paths
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
            .join(", ")
    )
}
