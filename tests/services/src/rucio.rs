//! A real Rucio: its schema in a PostgreSQL, its REST interface, its client, and its daemons one cycle at a time.
//!
//! ```text
//!   test --(JSON lines)--> tests/rucio/drive.py --> client --> tests/rucio/serve.py: REST --\
//!                              |  daemons, once each ----------------------------------------> PostgreSQL
//!                              |    conveyor --> stand-in for FTS: copies between folders
//!                              |    reaper ----> stand-in for storage: folders
//!                              \    hermes ----> ActiveMQ
//! ```

use crate::{Certificates, Postgres, Process, Program, free_port, root, scratch, wait_until};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(120);

/// What a Rucio is to be like.
#[derive(Debug, Clone, Default)]
pub struct RucioOptions {
    /// REST by TLS, with certificates of its own. [`Rucio::client`] then logs in with one of them, not with a password.
    pub tls: bool,
    /// Where Hermes sends events: port and destination of an ActiveMQ on 127.0.0.1. What is to be sent waits in
    /// table `messages` for good where there is none.
    pub broker: Option<(u16, String)>,
    /// Further settings of `rucio.cfg`: section, option, value. They come after ours and replace them.
    pub settings: Vec<(String, String, String)>,
}

/// A running Rucio. Dropping it ends it; its database stays in PostgreSQL.
#[derive(Debug)]
pub struct Rucio {
    database: String,
    port: u16,
    server: Option<Process>,
    driver: Process,
    orders: TcpStream,
    answers: BufReader<TcpStream>,
    certificates: Option<Certificates>,
    // Last: the folder goes when the processes have gone.
    folder: tempfile::TempDir,
}

impl Rucio {
    /// The identity, and account `root`'s password, for login with user name and password.
    pub const USER: &str = "rucio";
    /// Its password.
    pub const PASSWORD: &str = "correct horse";
    /// The account that everything is done with.
    pub const ACCOUNT: &str = "root";

    /// One on a new database `name`; returns when REST answers.
    pub fn start(postgres: &Postgres, name: &str) -> Result<Self> {
        Self::with(postgres, name, &RucioOptions::default())
    }

    /// The same, as `options` say.
    pub fn with(postgres: &Postgres, name: &str, options: &RucioOptions) -> Result<Self> {
        postgres.sql("postgres", &format!("CREATE DATABASE \"{name}\""))?;
        let folder = scratch("rucio")?;
        let certificates = options
            .tls
            .then(|| Certificates::new(folder.path()))
            .transpose()?;
        let port = free_port()?;
        configure(folder.path(), &postgres.url(name), port, options)?;
        let orders = free_port()?;
        let driver = python(folder.path(), "drive.py")?
            .arg(orders.to_string())
            .start()?;
        // Once it listens the schema is there.
        let mut connection = None;
        wait_until("Rucio's schema is made", LIMIT, || {
            driver.ensure_running()?;
            connection = TcpStream::connect(("127.0.0.1", orders)).ok();
            Ok(connection.is_some())
        })?;
        let connection = connection.context("no connection")?;
        let mut rucio = Self {
            database: postgres.url(name),
            port,
            server: None,
            driver,
            answers: BufReader::new(connection.try_clone()?),
            orders: connection,
            certificates,
            folder,
        };
        rucio.start_server()?;
        Ok(rucio)
    }

    /// Where REST is: `http://127.0.0.1:PORT`, or `https://localhost:PORT`.
    pub fn url(&self) -> String {
        match self.certificates {
            Some(_) => format!("https://localhost:{}", self.port),
            None => format!("http://127.0.0.1:{}", self.port),
        }
    }

    /// The database, as a URL.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The certificates of a Rucio with TLS. The client's is an identity of the account.
    pub fn certificates(&self) -> Result<&Certificates> {
        self.certificates
            .as_ref()
            .context("this Rucio was started without `tls`")
    }

    /// Calls a method of Rucio's own Python client with these arguments; what it returns.
    pub fn client(&mut self, method: &str, arguments: Value) -> Result<Value> {
        self.order(json!({"client": method, "with": arguments}))
    }

    /// Runs one cycle of a daemon, by the name of its command: `conveyor-poller` for `rucio-conveyor-poller`.
    pub fn daemon(&mut self, name: &str) -> Result<()> {
        self.order(json!({"daemon": name})).map(drop)
    }

    /// Adds an RSE that maps names as Rubin's do: `prefix` + SCOPE/NAME. Behind `prefix`, such as
    /// `davs://dtn.example.org:443/rucio/disk/`, is `folder`.
    pub fn add_rse(&mut self, name: &str, prefix: &str, folder: &Path) -> Result<()> {
        self.order(json!({"rse": name, "prefix": prefix, "folder": folder}))
            .map(drop)
    }

    /// Brings what rules ask for to its destination, up to `transfer-done` in table `messages`.
    pub fn transfer(&mut self) -> Result<()> {
        for daemon in ["judge-evaluator", "conveyor-submitter", "conveyor-poller"] {
            self.daemon(daemon)?;
        }
        Ok(())
    }

    /// Ends a rule now; what only it wanted goes with the next [`Rucio::reap`].
    pub fn expire(&mut self, rule: &str) -> Result<()> {
        let options = json!({"lifetime": 0, "purge_replicas": true});
        let arguments = json!({"rule_id": rule, "options": options});
        self.client("update_replication_rule", arguments).map(drop)
    }

    /// Removes what no rule wants any more, up to `deletion-done` in table `messages`.
    pub fn reap(&mut self) -> Result<()> {
        for daemon in ["undertaker", "judge-cleaner", "reaper"] {
            self.daemon(daemon)?;
        }
        Ok(())
    }

    /// Ends the REST server with SIGKILL.
    pub fn kill_server(&mut self) -> Result<()> {
        match self.server.take() {
            Some(mut server) => {
                server.kill()?;
                server.leave_folder()
            }
            None => Ok(()),
        }
    }

    /// Starts it, at the port it had; returns when it answers.
    pub fn start_server(&mut self) -> Result<()> {
        let mut server = python(self.folder.path(), "serve.py")?.arg(self.port.to_string());
        if let Some(certificates) = &self.certificates {
            server = server.arg(&certificates.server).arg(&certificates.authority);
        }
        let server = server.start()?;
        wait_until("Rucio's REST interface answers", LIMIT, || {
            server.ensure_running()?;
            Ok(TcpStream::connect(("127.0.0.1", self.port)).is_ok())
        })?;
        self.server = Some(server);
        Ok(())
    }

    /// What daemons and client logged last.
    pub fn log_end(&self) -> String {
        self.driver.log_end()
    }

    fn order(&mut self, order: Value) -> Result<Value> {
        writeln!(self.orders, "{order}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        self.driver.ensure_running()?;
        let mut answer: Value = serde_json::from_str(&line).context("the driver gave no answer")?;
        match answer.get("failed") {
            Some(why) => bail!("{order}: {}", why.as_str().unwrap_or_default()),
            None => Ok(answer["done"].take()),
        }
    }
}

/// One of the scripts, with the Python that has Rucio.
fn python(home: &Path, script: &str) -> Result<Program> {
    let python = root().join(".venv-rucio/bin/python");
    ensure!(
        python.exists(),
        "there is no Python with a Rucio at {}: run `make setup`",
        python.display()
    );
    let log: PathBuf = home.join(script).with_extension("log");
    Ok(Program::new(python, log)
        .arg(root().join("tests/rucio").join(script))
        .env("RUCIO_HOME", home)
        .current_dir(home)
        .remove(home))
}

fn configure(home: &Path, database: &str, port: u16, options: &RucioOptions) -> Result<()> {
    fs::create_dir(home.join("etc"))?;
    let place = home.display();
    let database = database.replace("postgresql://", "postgresql+psycopg://");
    let (url, login) = match options.tls {
        true => (format!("https://localhost:{port}"), "x509"),
        false => (format!("http://127.0.0.1:{port}"), "userpass"),
    };
    let (broker, destination) = options.broker.clone().unwrap_or_default();
    let mut text = format!(
        "[common]
loglevel = INFO
[client]
rucio_host = {url}
auth_host = {url}
auth_type = {login}
username = {user}
password = {password}
account = {account}
ca_cert = {place}/ca.pem
client_cert = {place}/client.crt
client_key = {place}/client.key
auth_token_file_path = {place}/token
[database]
default = {database}
[alembic]
cfg = {place}/etc/alembic.ini
[bootstrap]
userpass_identity = {user}
userpass_pwd = {password}
x509_identity = CN=client
[policy]
permission = generic
schema = generic
lfn2pfn_algorithm_default = identity
[conveyor]
scheme = davs
transfertool = fts3
[hermes]
services_list = activemq
[messaging-hermes]
brokers = 127.0.0.1
port = {broker}
nonssl_port = {broker}
use_ssl = False
username = hermes
password = hermes
destination = {destination}
",
        user = Rucio::USER,
        password = Rucio::PASSWORD,
        account = Rucio::ACCOUNT,
    );
    // Python's reader of such files takes no option twice, so ours give way.
    for (section, option, value) in &options.settings {
        replace(&mut text, section, option, value)?;
    }
    fs::write(home.join("etc/rucio.cfg"), text)?;
    fs::write(
        home.join("etc/alembic.ini"),
        format!(
            "[alembic]
script_location = rucio:db/sqla/migrate_repo
sqlalchemy.url = {database}
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = plain
[logger_root]
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(message)s
"
        ),
    )?;
    Ok(())
}

/// Sets `option` in its section, which is added where it is not there yet.
fn replace(text: &mut String, section: &str, option: &str, value: &str) -> Result<()> {
    let head = format!("[{section}]\n");
    match text.find(&head) {
        None => writeln!(text, "{head}{option} = {value}")?,
        Some(at) => {
            let begin = at + head.len();
            let end = text[begin..]
                .find("\n[")
                .map_or(text.len(), |end| begin + end + 1);
            let others = text[begin..end]
                .lines()
                .filter(|line| line.split(" =").next() != Some(option));
            let mut body: Vec<String> = others.map(str::to_owned).collect();
            body.push(format!("{option} = {value}\n"));
            text.replace_range(begin..end, &body.join("\n"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{ActiveMq, Stomp};
    use std::collections::BTreeSet;

    #[test]
    fn what_a_rule_asks_for_is_copied_what_nobody_wants_is_removed_and_hermes_tells_of_both() {
        let postgres = Postgres::start().unwrap();
        let broker = ActiveMq::start().unwrap();
        let mut monitoring = Stomp::connect(broker.port(), &[]).unwrap();
        monitoring.subscribe("/topic/rucio.events", &[]).unwrap();
        let options = RucioOptions {
            tls: true,
            broker: Some((broker.port(), "/topic/rucio.events".into())),
            ..RucioOptions::default()
        };
        let mut rucio = Rucio::with(&postgres, "rucio", &options).unwrap();
        let storage = scratch("storage").unwrap();
        let (usdf, frdf) = (storage.path().join("usdf"), storage.path().join("frdf"));
        rucio
            .add_rse("USDF_DISK", "davs://usdf.example.org:443/rucio/disk/", &usdf)
            .unwrap();
        rucio
            .add_rse("FRDF_DISK", "davs://frdf.example.org:443/rucio/disk/", &frdf)
            .unwrap();
        fs::create_dir_all(usdf.join("raw/night")).unwrap();
        fs::write(usdf.join("raw/night/1.fits"), "pixels").unwrap();
        let did = json!({"scope": "raw", "name": "night/1.fits"});
        let mut file = did.clone();
        file["bytes"] = 6.into();
        file["adler32"] = "08c2028a".into();
        file["meta"] = json!({"rubin_butler": "raw_file", "rubin_sidecar": "{}"});
        let mut client = |method, arguments| rucio.client(method, arguments).unwrap();
        client("add_scope", json!({"account": "root", "scope": "raw"}));
        client("add_replicas", json!({"rse": "USDF_DISK", "files": [file]}));
        let rule = json!({"dids": [did], "copies": 1, "rse_expression": "FRDF_DISK"});
        let rule = client("add_replication_rule", rule)[0].take();
        rucio.transfer().unwrap();
        assert_eq!(fs::read(frdf.join("raw/night/1.fits")).unwrap(), b"pixels");

        rucio.daemon("conveyor-finisher").unwrap();
        rucio.expire(rule.as_str().unwrap()).unwrap();
        rucio.reap().unwrap();
        assert!(!frdf.join("raw/night/1.fits").exists());

        let waiting = "SELECT count(*) FROM messages";
        assert_eq!(postgres.sql("rucio", waiting).unwrap(), "4");
        rucio.daemon("hermes").unwrap();
        assert_eq!(postgres.sql("rucio", waiting).unwrap(), "0");
        let told: BTreeSet<String> = (0..4)
            .map(|_| {
                let message = monitoring.receive(LIMIT).unwrap().unwrap();
                let event: Value = serde_json::from_slice(&message.body).unwrap();
                assert_eq!(event["payload"]["name"], "night/1.fits");
                event["event_type"].as_str().unwrap().to_owned()
            })
            .collect();
        let right = [
            "deletion-done",
            "transfer-done",
            "transfer-queued",
            "transfer-submitted",
        ];
        assert!(told.iter().eq(right), "{told:?}");

        rucio.kill_server().unwrap();
        rucio.start_server().unwrap();
        let metadata = rucio
            .client("get_metadata_bulk", json!({"dids": [did], "plugin": "ALL"}))
            .unwrap();
        assert_eq!(metadata[0]["rubin_butler"], "raw_file");
    }

    #[test]
    fn a_setting_replaces_ours() {
        let mut text = "[a]\nx = 1\ny = 2\n[b]\nx = 3\n".to_owned();
        replace(&mut text, "a", "x", "9").unwrap();
        replace(&mut text, "c", "z", "0").unwrap();
        assert_eq!(text, "[a]\ny = 2\nx = 9\n[b]\nx = 3\n[c]\nz = 0\n");
    }
}
