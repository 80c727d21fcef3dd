//! Real Apache Kafka: one broker or three, each also a controller (KRaft), on the loopback interface.
//!
//! A killed broker keeps its data and its ports, so [`Kafka::restart`] brings it back as it was.

use crate::topics::brokers_seen;
use crate::{Certificates, Process, Program, free_port, root, scratch, wait_until};
use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
    time::Duration,
};

/// Quick to start rather than quick to run, and small.
pub(crate) const JAVA: [&str; 6] = [
    "-Xms64m",
    "-Xmx512m",
    "-Xshare:auto",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
];

pub(crate) const LOGGING: &str = "status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=[%d] %p %m (%c{1})%n
rootLogger.level=info
rootLogger.appenderRef.out.ref=out
";

/// How many brokers, and what else they offer.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// 1 or 3.
    pub brokers: usize,
    /// Adds the listeners of [`Kafka::bootstrap_sasl`] and [`Kafka::bootstrap_tls`].
    pub secured: bool,
    /// Further broker properties.
    pub properties: Vec<(String, String)>,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            brokers: 1,
            secured: false,
            properties: Vec::new(),
        }
    }
}

/// A running cluster. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct Kafka {
    brokers: Vec<Broker>,
    certificates: Option<Certificates>,
    // Last: the folder goes when the brokers have gone.
    folder: tempfile::TempDir,
}

#[derive(Debug)]
struct Broker {
    folder: PathBuf,
    plain: u16,
    controller: u16,
    sasl: u16,
    tls: u16,
    process: Option<Process>,
}

impl Kafka {
    /// The user that [`Kafka::bootstrap_sasl`] knows, by PLAIN and by SCRAM.
    pub const USER: &str = "dbb";
    /// Its password.
    pub const PASSWORD: &str = "correct horse";

    /// The process ids of its brokers that run.
    pub fn process_ids(&self) -> Vec<u32> {
        let processes = self.brokers.iter().filter_map(|broker| broker.process.as_ref());
        processes.map(Process::id).collect()
    }

    /// One broker without security.
    pub fn start() -> Result<Self> {
        Self::with(KafkaOptions::default())
    }

    /// The one broker of this test process, started at the first call; tests keep to topics and groups of their own.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: LazyLock<Result<Kafka>> = LazyLock::new(Kafka::start);
        SHARED.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))
    }

    /// A cluster as `options` say; returns when all brokers take requests.
    pub fn with(options: KafkaOptions) -> Result<Self> {
        ensure!(
            jars().is_dir(),
            "Kafka is not at {}: run `make setup`",
            jars().display()
        );
        let folder = scratch("kafka")?;
        let certificates = options
            .secured
            .then(|| Certificates::new(folder.path()))
            .transpose()?;
        let mut brokers = Vec::new();
        for index in 0..options.brokers {
            let folder = folder.path().join(format!("broker{}", index + 1));
            fs::create_dir(&folder)?;
            brokers.push(Broker {
                folder,
                plain: free_port()?,
                controller: free_port()?,
                sasl: free_port()?,
                tls: free_port()?,
                process: None,
            });
        }
        let mut kafka = Self {
            brokers,
            certificates,
            folder,
        };
        for index in 0..options.brokers {
            kafka.configure(index, &options)?;
        }
        kafka.start_brokers()?;
        Ok(kafka)
    }

    /// `host:port` of all brokers, without security.
    pub fn bootstrap(&self) -> String {
        self.addresses(|broker| broker.plain)
    }

    /// `localhost:port` of all brokers, SASL_SSL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    pub fn bootstrap_sasl(&self) -> String {
        self.addresses(|broker| broker.sasl)
            .replace("127.0.0.1", "localhost")
    }

    /// `localhost:port` of all brokers, SSL; the client must show a certificate.
    pub fn bootstrap_tls(&self) -> String {
        self.addresses(|broker| broker.tls)
            .replace("127.0.0.1", "localhost")
    }

    /// The certificates of a secured cluster.
    pub fn certificates(&self) -> Result<&Certificates> {
        self.certificates
            .as_ref()
            .context("this Kafka was started without `secured`")
    }

    /// Kills broker `index` (from 0) with SIGKILL.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        self.running(index)?.kill()
    }

    /// Sends a signal, named without `SIG`, to broker `index`: `STOP`, `CONT`, `TERM`.
    pub fn signal(&mut self, index: usize, name: &str) -> Result<()> {
        self.running(index)?.signal(name)
    }

    /// Waits until broker `index` has ended after a signal.
    pub fn wait(&mut self, index: usize) -> Result<i32> {
        self.running(index)?.wait()
    }

    /// Starts broker `index` again with its data and ports, and returns when it takes
    /// requests; it is killed first if it still runs.
    pub fn restart(&mut self, index: usize) -> Result<()> {
        let process = self.running(index)?;
        process.kill()?;
        process.leave_folder()?;
        self.brokers[index].process = None;
        self.start_brokers()
    }

    /// Copies all that broker `index` has on disk, as a backup would; it is not running meanwhile.
    pub fn copy_data(&mut self, index: usize) -> Result<tempfile::TempDir> {
        let copy = scratch("kafka-copy")?;
        self.end(index)?;
        copy_folder(&self.brokers[index].folder.join("data"), copy.path())?;
        self.restart(index)?;
        Ok(copy)
    }

    /// Starts broker `index` again with what [`Kafka::copy_data`] has copied in place of what it has.
    pub fn restore_data(&mut self, index: usize, copy: &Path) -> Result<()> {
        self.running(index)?.kill()?;
        let data = self.brokers[index].folder.join("data");
        fs::remove_dir_all(&data)?;
        copy_folder(copy, &data)?;
        self.restart(index)
    }

    /// Ends broker `index` in good order.
    fn end(&mut self, index: usize) -> Result<()> {
        self.signal(index, "TERM")?;
        self.wait(index).map(drop)
    }

    /// What broker `index` logged last.
    pub fn log_end(&self, index: usize) -> String {
        self.brokers[index]
            .process
            .as_ref()
            .map(Process::log_end)
            .unwrap_or_default()
    }

    /// Runs one of Kafka's own tools by its Java class, `org.apache.kafka.tools.ConsumerGroupCommand`;
    /// its standard output. Takes a second or two.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> Result<String> {
        java_tool(class, arguments)
    }

    fn addresses(&self, port: impl Fn(&Broker) -> u16) -> String {
        let all: Vec<String> = self
            .brokers
            .iter()
            .map(|broker| format!("127.0.0.1:{}", port(broker)))
            .collect();
        all.join(",")
    }

    fn running(&mut self, index: usize) -> Result<&mut Process> {
        let broker = self
            .brokers
            .get_mut(index)
            .with_context(|| format!("there is no broker {index}"))?;
        broker.process.as_mut().context("the broker was never started")
    }

    fn start_brokers(&mut self) -> Result<()> {
        let mut started = Vec::new();
        for (index, broker) in self.brokers.iter_mut().enumerate() {
            if broker.process.is_some() {
                continue;
            }
            started.push(index);
            broker.process = Some(
                Program::new("java", broker.folder.join("log"))
                    .args(JAVA)
                    .arg(format!(
                        "-Dlog4j2.configurationFile={}",
                        broker.folder.join("log4j2.properties").display()
                    ))
                    .args(["-cp", &class_path(), "kafka.Kafka"])
                    .arg(broker.folder.join("server.properties"))
                    .current_dir(&broker.folder)
                    .remove(self.folder.path())
                    .start()?,
            );
        }
        for index in started {
            let mut config = ClientConfig::new();
            config.set(
                "bootstrap.servers",
                format!("127.0.0.1:{}", self.brokers[index].plain),
            );
            wait_until(
                &format!("broker {index} takes requests"),
                Duration::from_secs(90),
                || {
                    self.running(index)?.ensure_running()?;
                    Ok(brokers_seen(&config, 1)?.contains(&node_id(index)))
                },
            )?;
        }
        Ok(())
    }

    fn configure(&self, index: usize, options: &KafkaOptions) -> Result<()> {
        let broker = &self.brokers[index];
        let file = broker.folder.join("server.properties");
        fs::write(&file, self.properties(index, options)?)?;
        fs::write(broker.folder.join("log4j2.properties"), LOGGING)?;
        let mut format = vec![
            "format".into(),
            "-t".into(),
            "ZGJiLXRlc3RzLWthZmthMA".into(),
            "-c".into(),
        ];
        format.push(file.display().to_string());
        if options.secured {
            for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                format.push("--add-scram".into());
                format.push(format!(
                    "{mechanism}=[name={},password={}]",
                    Self::USER,
                    Self::PASSWORD
                ));
            }
        }
        java_tool("kafka.tools.StorageTool", &format)?;
        Ok(())
    }

    fn properties(&self, index: usize, options: &KafkaOptions) -> Result<String> {
        let broker = &self.brokers[index];
        let brokers = self.brokers.len();
        let in_sync = if brokers > 1 { 2 } else { 1 };
        let voters: Vec<String> = self
            .brokers
            .iter()
            .enumerate()
            .map(|(index, broker)| format!("{}@127.0.0.1:{}", node_id(index), broker.controller))
            .collect();
        let mut listeners = format!("PLAINTEXT://127.0.0.1:{}", broker.plain);
        if options.secured {
            write!(
                listeners,
                ",SASL_SSL://localhost:{},SSL://localhost:{}",
                broker.sasl, broker.tls
            )?;
        }
        let mut text = format!(
            "process.roles=broker,controller
node.id={}
controller.quorum.voters={}
controller.listener.names=CONTROLLER
listeners={listeners},CONTROLLER://127.0.0.1:{}
advertised.listeners={listeners}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
inter.broker.listener.name=PLAINTEXT
log.dirs={}
default.replication.factor={brokers}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={brokers}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={brokers}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor={brokers}
share.coordinator.state.topic.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=1
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
log.cleaner.backoff.ms=100
log.retention.check.interval.ms=500
# One core is enough for a test, and a broker that was killed is soon missed.
num.network.threads=2
num.io.threads=4
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
",
            node_id(index),
            voters.join(","),
            broker.controller,
            broker.folder.join("data").display(),
        );
        if options.secured {
            let certificates = self.certificates()?;
            write!(
                text,
                "ssl.keystore.type=PEM
ssl.keystore.location={}
ssl.truststore.type=PEM
ssl.truststore.location={}
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{}=\"{}\";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
",
                certificates.server.display(),
                certificates.authority.display(),
                Self::USER,
                Self::PASSWORD,
            )?;
        }
        for (name, value) in &options.properties {
            writeln!(text, "{name}={value}")?;
        }
        Ok(text)
    }
}

/// The id by which broker `index` goes in the cluster.
fn node_id(index: usize) -> i32 {
    index as i32 + 1
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

fn jars() -> PathBuf {
    root().join("target/kafka/libs")
}

pub(crate) fn class_path() -> String {
    jars().join("*").display().to_string()
}

fn java_tool(class: &str, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Result<String> {
    let answer = Command::new("java")
        .args(JAVA)
        .args(["-cp", &class_path(), class])
        .args(arguments)
        .output()
        .context("java is missing: run `make setup`")?;
    ensure!(
        answer.status.success(),
        "{class}: {}{}",
        String::from_utf8_lossy(&answer.stdout),
        String::from_utf8_lossy(&answer.stderr)
    );
    Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_killed_broker_comes_back_with_its_topics_and_records() {
        let mut kafka = Kafka::start().unwrap();
        kafka.create_topic("events", 2).unwrap();
        kafka.produce("events", Some(1), ["one", "two"]).unwrap();
        kafka.kill(0).unwrap();
        assert!(kafka.produce("events", Some(1), ["lost"]).is_err());
        kafka.restart(0).unwrap();
        assert_eq!(kafka.end_offset("events", 1).unwrap(), 2);
        kafka.delete_records("events", 1, 1).unwrap();
        assert_eq!(kafka.first_offset("events", 1).unwrap(), 1);
        kafka.delete_topic("events").unwrap();
        let folder = kafka.folder.path().to_owned();
        drop(kafka);
        assert!(!folder.exists());
    }

    #[test]
    fn three_brokers_go_on_without_one_of_them() {
        let mut kafka = Kafka::with(KafkaOptions {
            brokers: 3,
            ..KafkaOptions::default()
        })
        .unwrap();
        kafka.create_topic("events", 3).unwrap();
        kafka.kill(2).unwrap();
        for partition in 0..3 {
            kafka.produce("events", Some(partition), ["one"]).unwrap();
        }
        kafka.restart(2).unwrap();
        assert_eq!(kafka.end_offset("events", 2).unwrap(), 1);
    }

    #[test]
    fn a_secured_broker_lets_in_who_has_the_password_or_a_certificate() {
        let kafka = Kafka::with(KafkaOptions {
            secured: true,
            ..KafkaOptions::default()
        })
        .unwrap();
        let authority = kafka.certificates().unwrap().authority.display().to_string();
        let sasl = |mechanism: &str, password: &str| {
            let mut config = ClientConfig::new();
            config
                .set("bootstrap.servers", kafka.bootstrap_sasl())
                .set("security.protocol", "sasl_ssl");
            config
                .set("ssl.ca.location", &authority)
                .set("sasl.mechanisms", mechanism);
            config
                .set("sasl.username", Kafka::USER)
                .set("sasl.password", password);
            brokers_seen(&config, 5).unwrap().len()
        };
        assert_eq!(sasl("PLAIN", Kafka::PASSWORD), 1);
        assert_eq!(sasl("SCRAM-SHA-512", Kafka::PASSWORD), 1);
        assert_eq!(sasl("SCRAM-SHA-512", "a guess"), 0);
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", kafka.bootstrap_tls())
            .set("security.protocol", "ssl");
        config.set("ssl.ca.location", &authority);
        assert_eq!(brokers_seen(&config, 5).unwrap().len(), 0);
        config.set(
            "ssl.certificate.location",
            kafka.certificates().unwrap().client.display().to_string(),
        );
        config.set(
            "ssl.key.location",
            kafka.certificates().unwrap().client_key.display().to_string(),
        );
        assert_eq!(brokers_seen(&config, 5).unwrap().len(), 1);
    }
}
