//! MirrorMaker 2 between two Kafkas, with the configuration that a site is given, `deploy/federation/`.
//!
//! ```text
//!   "usdf" --the site's topics--> "frdf"
//!          <--outcomes, requests--
//! ```
//!
//! Only addresses, the number of replicas, how often it looks for new topics and how it looks for its own parts (a
//! file that names them, not every class there is: seconds) are the test's own.

use crate::{
    Kafka, Process, Program,
    kafka::{JAVA, LOGGING, class_path},
    root, scratch,
};
use anyhow::{Context, Result};
use std::{fs, path::PathBuf};

/// Added to the file: of each property the last one counts.
const QUICK: &str = "
replication.factor = 1
offset.storage.replication.factor = 1
config.storage.replication.factor = 1
status.storage.replication.factor = 1
offset-syncs.topic.replication.factor = 1
offset.storage.partitions = 1
status.storage.partitions = 1
refresh.topics.interval.seconds = 1
sync.topic.configs.interval.seconds = 1
offset.flush.interval.ms = 500
consumer.metadata.max.age.ms = 1000
consumer.fetch.max.wait.ms = 100
usdf.plugin.discovery = service_load
frdf.plugin.discovery = service_load
";

/// A MirrorMaker between two clusters. Dropping it ends it.
#[derive(Debug)]
pub struct Mirror {
    process: Option<Process>,
    // Last: the folder goes when the process has gone.
    folder: tempfile::TempDir,
}

impl Mirror {
    /// Starts it from `usdf` to `frdf` and back, for the topics of RSEs whose names begin with `FRDF_`.
    pub fn start(usdf: &Kafka, frdf: &Kafka) -> Result<Self> {
        let folder = scratch("mirror")?;
        let path = root().join("deploy/federation/mirrormaker.properties");
        let theirs =
            fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
        let addresses = format!(
            "usdf.bootstrap.servers = {}\nfrdf.bootstrap.servers = {}\n",
            usdf.bootstrap(),
            frdf.bootstrap()
        );
        fs::write(
            folder.path().join("mirror.properties"),
            [&theirs, QUICK, &addresses].concat(),
        )?;
        fs::write(folder.path().join("log4j2.properties"), LOGGING)?;
        let mut mirror = Self {
            process: None,
            folder,
        };
        mirror.connect()?;
        Ok(mirror)
    }

    /// Stops it in good order: the link is cut until [`Mirror::connect`].
    pub fn cut(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.signal("TERM")?;
            process.wait()?;
        }
        Ok(())
    }

    /// Starts it again; it goes on where it was.
    pub fn connect(&mut self) -> Result<()> {
        self.cut()?;
        let logging = self.folder.path().join("log4j2.properties");
        let process = Program::new("java", self.log())
            .args(JAVA)
            .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
            .args([
                "-cp",
                &class_path(),
                "org.apache.kafka.connect.mirror.MirrorMaker",
            ])
            .arg(self.folder.path().join("mirror.properties"))
            .current_dir(self.folder.path())
            .start()?;
        self.process = Some(process);
        Ok(())
    }

    /// An error with the end of its log, if it is connected and has ended.
    pub fn ensure_running(&self) -> Result<()> {
        self.process.as_ref().map_or(Ok(()), Process::ensure_running)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::wait_until;
    use std::{thread, time::Duration};

    const LIMIT: Duration = Duration::from_secs(120);

    #[test]
    fn a_site_gets_its_own_topics_and_what_retention_took_while_the_link_was_cut_is_missing() {
        let (usdf, frdf) = thread::scope(|scope| {
            let usdf = scope.spawn(Kafka::start);
            (usdf.join().unwrap().unwrap(), Kafka::start().unwrap())
        });
        usdf.create_topic("FRDF_DISK-raw", 2).unwrap();
        usdf.create_topic("UKDF_DISK-raw", 1).unwrap();
        frdf.create_topic("FRDF_DISK-outcomes", 1).unwrap();
        usdf.produce("FRDF_DISK-raw", Some(1), ["1", "2", "3"]).unwrap();
        usdf.produce("UKDF_DISK-raw", Some(0), ["not for FrDF"]).unwrap();
        frdf.produce("FRDF_DISK-outcomes", Some(0), ["done"]).unwrap();
        let mut mirror = Mirror::start(&usdf, &frdf).unwrap();
        let comes = |mirror: &Mirror, kafka: &Kafka, topic: &str, partition, end| {
            wait_until(&format!("{topic} is mirrored"), LIMIT, || {
                mirror.ensure_running()?;
                Ok(kafka.end_offset(topic, partition).is_ok_and(|there| there == end))
            })
            .unwrap();
        };
        comes(&mirror, &frdf, "FRDF_DISK-raw", 1, 3);
        comes(&mirror, &usdf, "FRDF_DISK-outcomes", 0, 1);
        mirror.cut().unwrap();
        usdf.produce("FRDF_DISK-raw", Some(1), ["4", "5"]).unwrap();
        usdf.delete_records("FRDF_DISK-raw", 1, 5).unwrap();
        usdf.produce("FRDF_DISK-raw", Some(1), ["6"]).unwrap();
        mirror.connect().unwrap();
        // The fourth record at FrDF is the sixth.
        comes(&mirror, &frdf, "FRDF_DISK-raw", 1, 4);
        assert!(frdf.end_offset("UKDF_DISK-raw", 0).is_err());
        // What came back is not sent out again.
        assert_eq!(frdf.end_offset("FRDF_DISK-outcomes", 0).unwrap(), 1);
    }
}
