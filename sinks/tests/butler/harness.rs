//! Repositories, files and requests for the tests.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use dbb_events::{Action, Did, EventId, Kind, Micros, Outcome, Place, Reason, Request, Rse, Settled};
use dbb_sinks::{
    Sink,
    butler::{ButlerSettings, ButlerSink, NoHistory, StatsSnapshot},
};
use dbb_test_services::{Postgres, python, scratch};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use uuid::Uuid;

/// The kinds of registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

/// Runs a test on both.
macro_rules! on_both {
    ($($(#[$attribute:meta])* fn $name:ident($site:ident) $body:block)*) => {
        $(mod $name {
            use super::*;

            fn test($site: &mut Site) -> Result<()> $body

            $(#[$attribute])*
            #[test]
            fn on_sqlite() -> Result<()> {
                test(&mut *shared(Database::Sqlite)?)
            }

            $(#[$attribute])*
            #[test]
            fn on_postgresql() -> Result<()> {
                test(&mut *shared(Database::Postgres)?)
            }
        })*
    };
}
pub(crate) use on_both;

/// A repository, a sink for it, and a second pair of hands.
pub(crate) struct Site {
    pub(crate) database: Database,
    pub(crate) root: String,
    pub(crate) folder: PathBuf,
    pub(crate) helper: Helper,
    pub(crate) sink: ButlerSink,
}

/// The shared site of this database, for as long as the test holds it.
pub(crate) fn shared(database: Database) -> Result<MutexGuard<'static, Site>> {
    type Shared = LazyLock<Result<Mutex<Site>>>;
    static SQLITE: Shared = LazyLock::new(|| Ok(Mutex::new(Site::new(Database::Sqlite, None)?)));
    static POSTGRES: Shared = LazyLock::new(|| {
        let url = Postgres::shared()?.create_database("butler")?;
        Ok(Mutex::new(Site::new(Database::Postgres, Some(&url))?))
    });
    let site: &'static Shared = match database {
        Database::Sqlite => &SQLITE,
        Database::Postgres => &POSTGRES,
    };
    match &**site {
        Ok(site) => Ok(site.lock().unwrap_or_else(PoisonError::into_inner)),
        Err(error) => bail!("{error:#}"),
    }
}

/// Settings for the repository at `root`, with the Python that has a Butler.
pub(crate) fn settings(root: &str) -> Result<ButlerSettings> {
    let mut settings = ButlerSettings::new(root);
    settings.worker.command = vec![python()?.display().to_string()];
    Ok(settings)
}

impl Site {
    /// A new repository whose registry is at `url`, or in a SQLite file.
    pub(crate) fn new(database: Database, url: Option<&str>) -> Result<Self> {
        // The helper removes it at the end of its input: statics are never dropped.
        let folder = scratch("butler")?.keep();
        let mut helper = Helper::start(&folder)?;
        let root = folder.join("repo").display().to_string();
        helper.ask(json!({"op": "make", "root": root, "db": url, "namespace": url.map(|_| "site")}))?;
        let sink = ButlerSink::new("site", settings(&root)?, Box::new(NoHistory))?;
        Ok(Self {
            database,
            root,
            folder,
            helper,
            sink,
        })
    }

    /// A small file of 5 bytes.
    pub(crate) fn file(&self) -> Result<String> {
        let path = self
            .folder
            .join(format!("file-{}.yaml", Uuid::from_u128(next().into())));
        fs::write(&path, "a: 1\n")?;
        Ok(path.display().to_string())
    }

    /// A dataset of the known type `preview`, with its file.
    pub(crate) fn product(&self, run: &str, visit: u64, detector: u64) -> Result<Dataset> {
        Ok(Dataset::new(self.file()?, run, visit, detector))
    }

    /// `count` of them, with data ids that all differ.
    pub(crate) fn products(&self, run: &str, count: u64) -> Result<Vec<Dataset>> {
        ensure!(count <= 200, "the repository has 20 visits of 10 detectors");
        (0..count)
            .map(|n| self.product(run, 1 + n / 10, n % 10))
            .collect()
    }

    /// Delivers these and returns the answers in their order.
    pub(crate) fn deliver(&mut self, requests: Vec<Request>) -> Vec<Settled> {
        in_order(&requests.clone(), self.sink.deliver(requests))
    }

    pub(crate) fn stats(&self) -> StatsSnapshot {
        self.sink.stats().snapshot()
    }

    /// What the repository says of these UUIDs, asked by other code than the worker's.
    pub(crate) fn content(&mut self, uuids: &[Uuid]) -> Result<Value> {
        let answer = self
            .helper
            .ask(json!({"op": "content", "root": self.root, "uuids": uuids}))?;
        Ok(answer["datasets"].clone())
    }

    /// Fails unless exactly these are registered, each at its URI.
    pub(crate) fn assert_registered(&mut self, datasets: &[Dataset]) -> Result<()> {
        let uuids: Vec<Uuid> = datasets.iter().map(|dataset| dataset.uuid).collect();
        let content = self.content(&uuids)?;
        for dataset in datasets {
            let uri = &content[dataset.uuid.to_string()]["uri"];
            ensure!(
                *uri == json!(format!("file://{}", dataset.uri)),
                "{dataset:?}: {uri}"
            );
        }
        Ok(())
    }

    /// Fails if any of these is registered.
    pub(crate) fn assert_absent(&mut self, datasets: &[Dataset]) -> Result<()> {
        let uuids: Vec<Uuid> = datasets.iter().map(|dataset| dataset.uuid).collect();
        let content = self.content(&uuids)?;
        ensure!(content == json!({}), "{content}");
        Ok(())
    }

    pub(crate) fn sql(&mut self, statements: &[String]) -> Result<()> {
        self.helper
            .ask(json!({"op": "sql", "root": self.root, "statements": statements}))
            .map(drop)
    }
}

/// The answers in the order of the requests, which are told apart by event.
pub(crate) fn in_order(requests: &[Request], mut settled: Vec<Settled>) -> Vec<Settled> {
    assert_eq!(settled.len(), requests.len(), "one answer for each request");
    settled.sort_by_key(|answer| requests.iter().position(|request| *request == answer.request));
    settled
}

/// The words of these outcomes.
pub(crate) fn words(settled: &[Settled]) -> Vec<&'static str> {
    settled.iter().map(|answer| answer.outcome.as_str()).collect()
}

/// The reason of a refusal and its sentence.
pub(crate) fn refusal(settled: &Settled) -> Result<(Reason, &str)> {
    match &settled.outcome {
        Outcome::Refused(refusal) => Ok((refusal.reason, &refusal.detail)),
        other => bail!("{other:?} is no refusal"),
    }
}

/// What an answer waits for.
pub(crate) fn waits_for(settled: &Settled) -> Result<String> {
    match &settled.outcome {
        Outcome::Waiting { dependency, .. } => Ok(dependency.key()),
        other => bail!("{other:?} does not wait"),
    }
}

/// A number never given before.
pub(crate) fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A RUN that no other test writes.
pub(crate) fn new_run(what: &str) -> String {
    format!("test/{what}/{}", next())
}

/// One dataset as its producer knows it.
#[derive(Debug, Clone)]
pub(crate) struct Dataset {
    pub(crate) uuid: Uuid,
    pub(crate) uri: String,
    pub(crate) run: String,
    pub(crate) dataset_type: String,
    pub(crate) storage_class: String,
    pub(crate) dimensions: Vec<&'static str>,
    pub(crate) data_id: Value,
    pub(crate) bytes: Option<u64>,
    pub(crate) adler32: Option<String>,
    pub(crate) kind: Kind,
}

impl Dataset {
    pub(crate) fn new(uri: String, run: &str, visit: u64, detector: u64) -> Self {
        Self {
            uuid: random_uuid(),
            uri,
            run: run.into(),
            dataset_type: "preview".into(),
            storage_class: "StructuredDataDict".into(),
            dimensions: vec!["instrument", "detector", "visit"],
            data_id: json!({
                "instrument": "FakeCam", "detector": detector, "visit": visit,
                "band": "r", "day_obs": 20260401, "physical_filter": "r_03",
            }),
            bytes: Some(5),
            adler32: None,
            kind: Kind::DataProduct,
        }
    }

    /// The sidecar as `rucio-register` writes it.
    pub(crate) fn sidecar(&self) -> String {
        json!({
            "id": self.uuid,
            "datasetType": {
                "name": self.dataset_type, "storageClass": self.storage_class, "dimensions": self.dimensions,
            },
            "dataId": {"dataId": self.data_id},
            "run": self.run,
        })
        .to_string()
    }

    pub(crate) fn request(&self) -> Request {
        let mut request = request(self.kind, &self.uri);
        request.sidecar = self.sidecar().into();
        request.bytes = self.bytes;
        request.adler32 = self.adler32.as_deref().map(Into::into);
        request
    }
}

/// Requests for all of these.
pub(crate) fn requests(datasets: &[Dataset]) -> Vec<Request> {
    datasets.iter().map(Dataset::request).collect()
}

/// A request for the file at `uri`, of a DID that occurs once.
pub(crate) fn request(kind: Kind, uri: &str) -> Request {
    let number = next();
    Request {
        event: EventId(number.into()),
        target: "site".into(),
        place: Place {
            stream: "SITE_RAW_DISK-raw".into(),
            partition: 0,
            offset: number,
            line: None,
        },
        event_type: "transfer-done".into(),
        did: Did::new("raw", format!("file-{number}")),
        rse: Rse::new("SITE_RAW_DISK"),
        action: Action::Register(kind),
        created_at: Micros(1_700_000_000_000_000),
        url: format!("root://door:1094/{uri}").into(),
        uri: uri.into(),
        sidecar: "".into(),
        bytes: None,
        adler32: None,
        landed_at: None,
        appended_at: None,
        read_at: Micros(1_700_000_001_000_000),
        attempts: 0,
        waiting_since: None,
        was_unrouted: false,
        topic: None,
        body: Bytes::from_static(b"{}"),
    }
}

fn random_uuid() -> Uuid {
    // Different in every run, because a registry may outlive one.
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let value = (seed << 40) ^ u128::from(next()).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    uuid::Builder::from_random_bytes(value.to_be_bytes()).into_uuid()
}

/// `helper.py`, running.
pub(crate) struct Helper {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts it; at its end it removes `folder`.
    fn start(folder: &std::path::Path) -> Result<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/butler/helper.py");
        let mut process = Command::new(python()?)
            .arg(script)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let to = process.stdin.take().context("no pipe")?;
        let from = BufReader::new(process.stdout.take().context("no pipe")?);
        Ok(Self { process, to, from })
    }

    /// Asks for one operation.
    pub(crate) fn ask(&mut self, request: Value) -> Result<Value> {
        writeln!(self.to, "{request}")?;
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line).with_context(|| format!("after {request}"))?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{request}: {error}");
        }
        Ok(answer)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Only for sites that are not shared; ending its input would need ownership.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
