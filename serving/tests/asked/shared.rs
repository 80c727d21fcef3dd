//! A synthetic publisher, views to publish, and clients.

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use dbb_events::Micros;
use dbb_operators::{
    publish::{BoundOffsets, OFFSETS, Part, Published, Publisher},
    views::{Batches, Scan, Table, View},
};
use dbb_serving::Offered;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// A view of two columns, `name` and `n`, of any length, whose batches are made when asked for.
pub struct Numbers {
    pub from: i64,
    pub count: usize,
    /// How many batches were made.
    pub made: Arc<AtomicUsize>,
    /// How long one takes.
    pub slow: std::time::Duration,
}

pub const BATCH: usize = 1000;

impl Numbers {
    pub fn new(from: i64, count: usize) -> Self {
        Self {
            from,
            count,
            made: Arc::default(),
            slow: std::time::Duration::ZERO,
        }
    }
}

pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("n", DataType::Int64, false),
    ]))
}

impl Table for Numbers {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn rows(&self) -> usize {
        self.count
    }

    fn scan(&self, scan: &Scan) -> Batches {
        let (from, count, made, slow) = (self.from, self.count, Arc::clone(&self.made), self.slow);
        let projection = scan.projection.clone();
        Box::new((0..count).step_by(BATCH).map(move |first| {
            made.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(slow);
            let numbers = first..(first + BATCH).min(count);
            let names = numbers.clone().map(|n| format!("name-{}", n % 10));
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from_iter_values(names)),
                Arc::new(Int64Array::from_iter_values(numbers.map(|n| from + n as i64))),
            ];
            let batch = RecordBatch::try_new(schema(), columns).unwrap();
            Ok(match &projection {
                Some(projection) => batch.project(projection).unwrap(),
                None => batch,
            })
        }))
    }
}

pub fn offered(name: &'static str) -> Offered {
    Offered {
        view: View {
            name,
            meaning: "Some numbers.",
            cost: "Nothing.",
        },
        schema: schema(),
    }
}

/// One epoch with these tables, as of offset 7 of partition 0 of `events`.
pub fn published(epoch: u64, tables: Vec<(&'static str, Arc<dyn Table>)>) -> Arc<Published> {
    let publisher = Publisher::new(1);
    publish(&publisher, epoch, tables);
    publisher.newest().unwrap()
}

pub fn publish(publisher: &Publisher, epoch: u64, tables: Vec<(&'static str, Arc<dyn Table>)>) {
    publisher.expect((OFFSETS, 0));
    for (name, _) in &tables {
        publisher.expect((name, 0));
    }
    publisher.minted(epoch, Micros(1_700_000_000_000_000 + epoch as i64));
    let offsets: BoundOffsets = BTreeMap::from([(("events".into(), 0), epoch + 7)]);
    publisher.offer((OFFSETS, 0), epoch, Part::Offsets(offsets));
    for (name, table) in tables {
        publisher.offer((name, 0), epoch, Part::Table(table));
    }
}

/// A server of SQL on loopback, unless `settings` say where.
pub fn start(
    settings: dbb_serving::pg::SqlSettings,
    epochs: Arc<dyn dbb_serving::sql::Epochs>,
    offered: Vec<Offered>,
    metrics: dbb_serving::Metrics,
) -> dbb_serving::pg::SqlServer {
    let listen = settings.listen.clone().or(Some("127.0.0.1:0".into()));
    let settings = dbb_serving::pg::SqlSettings { listen, ..settings };
    dbb_serving::pg::serve(&settings, epochs, offered, metrics)
        .unwrap()
        .unwrap()
}

/// What psql said.
pub struct Said {
    pub out: String,
    pub error: String,
    /// The SQLSTATE of its first error.
    pub state: String,
}

impl Said {
    pub fn expect(self) -> String {
        assert!(self.error.is_empty(), "{}", self.error);
        self.out
    }
}

pub fn psql_command(
    server: &dbb_serving::pg::SqlServer,
    how: &str,
    arguments: &[&str],
) -> std::process::Command {
    let port = server.address().port();
    let user = if how.contains("user=") { "" } else { "user=tester" };
    let name = if how.contains("verify-full") {
        "host=localhost hostaddr=127.0.0.1"
    } else {
        "host=127.0.0.1"
    };
    let mut command = std::process::Command::new("psql");
    command
        .env("LC_ALL", "C")
        .args(["-X", "-v", "VERBOSITY=verbose", "-d"])
        .arg(format!("{name} port={port} dbname=dbb {user} {how}"))
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    command
}

pub fn psql(server: &dbb_serving::pg::SqlServer, how: &str, arguments: &[&str]) -> Said {
    let said = psql_command(server, how, arguments)
        .output()
        .expect("psql is installed");
    let error = String::from_utf8(said.stderr).unwrap();
    let state = error
        .split("ERROR:  ")
        .nth(1)
        .and_then(|rest| rest.split(':').next());
    Said {
        out: String::from_utf8(said.stdout).unwrap(),
        state: state.unwrap_or_default().to_owned(),
        error,
    }
}

/// The driver that prepares statements.
pub struct Client;

impl Client {
    pub fn try_connect(
        server: &dbb_serving::pg::SqlServer,
        how: &str,
    ) -> Result<postgres::Client, postgres::Error> {
        let user = if how.contains("user=") { "" } else { "user=tester" };
        let port = server.address().port();
        postgres::Client::connect(
            &format!("host=127.0.0.1 port={port} dbname=dbb {user} {how}"),
            postgres::NoTls,
        )
    }

    pub fn connect(server: &dbb_serving::pg::SqlServer, how: &str) -> postgres::Client {
        Self::try_connect(server, how).unwrap()
    }
}

/// Waits until it is so; for ever would be a test that hangs.
pub fn wait_for(so: impl Fn() -> bool) {
    for _ in 0..6000 {
        if so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it never came to be so");
}

/// A certificate for `localhost` that vouches for itself, and its key.
pub fn certificate(folder: &std::path::Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
    let made = std::process::Command::new("openssl")
        .args("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost".split(' '))
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    (certificate, key)
}
