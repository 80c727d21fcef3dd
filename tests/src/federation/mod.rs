//! Two data facilities and all that is between them: Rucio and a hub at "USDF", a site with a Butler at "FrDF".
//!
//! ```text
//!   USDF   Rucio --Hermes--> ActiveMQ --> dbb, a hub --> Kafka --\
//!             |                 look-ups at Rucio                 MirrorMaker 2
//!          folders of USDF_RAW_DISK, ...                          |
//!             | FTS                                               v
//!   FrDF   folders of FRDF_RAW_DISK, ... <-- Butler <-- dbb <-- Kafka
//! ```
//!
//! The files are a demo site's: small, real, each with its sidecar. They begin at USDF, and only Rucio moves them.

mod files;
mod programs;
mod proof;

pub use files::{File, Rule};

use crate::Site;
use anyhow::Result;
use dbb_test_services::{ActiveMq, Kafka, Mirror, Postgres, Rucio, RucioOptions, free_port, python};
use serde_json::json;
use std::{
    collections::BTreeSet,
    fs,
    panic::resume_unwind,
    path::Path,
    thread::{self, ScopedJoinHandle},
};

/// Where Hermes sends events, and where the hub and anybody else reads them.
pub const EVENTS: &str = "/topic/rucio.events";

/// The site's RSEs, and what the URLs of their files begin with. At USDF there is one for each, of which only the
/// first word differs.
const RSES: [(&str, &str); 2] = [
    ("FRDF_RAW_DISK", "davs://dtn.frdf.example.org:443/rucio/raw_disk/"),
    (
        "FRDF_BUTLER_DISK",
        "davs://dtn.frdf.example.org:443/rucio/butler_disk/",
    ),
];

/// A site of which every event is good.
const SITE: [&str; 10] = [
    "--site",
    "FRDF",
    "--faults",
    "none",
    "--repeats",
    "0",
    "--chatter",
    "0",
    "--exposures",
    "4",
];

/// A federation in one folder, which goes with it.
#[derive(Debug)]
pub struct Federation {
    /// Rucio at USDF.
    pub rucio: Rucio,
    /// What Hermes sends to.
    pub broker: ActiveMq,
    /// Kafka at USDF.
    pub usdf: Kafka,
    /// Kafka at FrDF.
    pub frdf: Kafka,
    /// The link.
    pub mirror: Mirror,
    /// FrDF's Butler, ledger and configuration.
    pub site: Site,
    /// Dimension files come first.
    files: Vec<File>,
    registered: usize,
    /// The port of the centre's SQL.
    sql: u16,
}

impl Federation {
    /// Everything but the two `dbb`, of which `program` is the file; the site has `files` data products and raws.
    pub fn start(program: &str, files: usize) -> Result<Self> {
        // Most of each start is waiting.
        thread::scope(|scope| {
            let usdf = scope.spawn(Kafka::start);
            let frdf = scope.spawn(Kafka::start);
            let site = scope.spawn(|| {
                let python = python()?.display().to_string();
                let files = files.to_string();
                let options = ["--python", &python, "--files", &files];
                Site::make(program, &[&SITE[..], &options].concat())
            });
            let broker = ActiveMq::start()?;
            let options = RucioOptions {
                broker: Some((broker.port(), EVENTS.into())),
                ..RucioOptions::default()
            };
            let rucio = Rucio::with(Postgres::shared()?, "rucio_federation", &options)?;
            let (usdf, frdf, site) = (joined(usdf)?, joined(frdf)?, joined(site)?);
            let mut federation = Self {
                rucio,
                broker,
                mirror: Mirror::start(&usdf, &frdf)?,
                usdf,
                frdf,
                files: files::of(&site)?,
                site,
                registered: 0,
                sql: free_port()?,
            };
            let repositories = federation.site.path().join("repo");
            copy(&repositories.join("main"), &repositories.join("blank"))?;
            federation.furnish()?;
            federation.configure_site()?;
            Ok(federation)
        })
    }

    /// The RSEs of the site.
    pub fn rses() -> [&'static str; 2] {
        RSES.map(|(rse, _)| rse)
    }

    /// The site as after a fire: its files are there, its Butler has no datasets, it has no ledger, and what its
    /// topics told is past.
    pub fn lose_site(&mut self) -> Result<()> {
        let here = self.site.path();
        fs::rename(here.join("repo/main"), here.join("repo/lost"))?;
        fs::rename(here.join("repo/blank"), here.join("repo/main"))?;
        for file in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
            let file = here.join(file);
            if file.exists() {
                fs::remove_file(file)?;
            }
        }
        self.site.set("source.kafka.group_id=rebuilt");
        self.site.set("source.kafka.start=latest");
        Ok(())
    }

    /// RSEs and scopes. The files go from the folders of FrDF, where they were made, to those of USDF.
    fn furnish(&mut self) -> Result<()> {
        let (made, usdf) = (self.site.path().join("rse"), self.site.path().join("usdf"));
        fs::rename(&made, &usdf)?;
        for (rse, prefix) in RSES {
            self.rucio.add_rse(rse, prefix, &made.join(rse))?;
            let theirs = prefix.replace("frdf", "usdf");
            self.rucio.add_rse(&at_usdf(rse), &theirs, &usdf.join(rse))?;
        }
        let scopes: BTreeSet<&str> = self.files.iter().map(|file| file.scope.as_str()).collect();
        for scope in scopes {
            let arguments = json!({"account": Rucio::ACCOUNT, "scope": scope});
            self.rucio.client("add_scope", arguments)?;
        }
        Ok(())
    }
}

/// A folder, with all that is in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

/// The same RSE at USDF.
fn at_usdf(rse: &str) -> String {
    rse.replacen("FRDF", "USDF", 1)
}

/// What a thread found; its panic is ours.
fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}
