//! The programs of a federation, each running on the configuration that `docs/federation.md` explains.
//!
//! ```text
//!   deploy/federation/{hub,centre,frdf}.yaml --(addresses and folders by --set)--> dbb
//! ```

use super::{Federation, RSES, Rule};
use crate::Run;
use anyhow::{Context, Result};
use dbb_test_services::{Program, Rucio, python, root};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

impl Federation {
    /// The hub.
    pub fn start_hub(&self) -> Result<Run> {
        let here = self.folder("hub")?;
        let sets = [
            format!("source.stomp.brokers=[\"127.0.0.1:{}\"]", self.broker.port()),
            format!("hub.publish.kafka.brokers=[\"{}\"]", self.usdf.bootstrap()),
            format!("hub.publish.sent_log.folder={here}/sent"),
            "hub.publish.heartbeats.every_seconds=1".into(),
            format!("hub.lookup.rucio.url={}", self.rucio.url()),
            format!("hub.lookup.rucio.account={}", Rucio::ACCOUNT),
            format!("hub.lookup.rucio.auth.userpass.username={}", Rucio::USER),
        ];
        let mut hub = self.run("hub", &sets)?;
        // What Hermes sends before is nobody's.
        let log = hub.log().to_owned();
        hub.until("the hub has subscribed", || {
            Ok(fs::read_to_string(&log).is_ok_and(|text| text.contains("subscribed")))
        })?;
        Ok(hub)
    }

    /// The views at the centre.
    pub fn start_centre(&self) -> Result<Run> {
        self.run("centre", &self.centre_sets()?)
    }

    /// The site.
    pub fn start_site(&self) -> Result<Run> {
        self.site.start(&[])
    }

    /// What `dbb complete` says at the centre of a rule's dataset: its exit status, and its words.
    pub fn complete(&self, rule: &Rule, arguments: &[&str]) -> Result<(i32, String)> {
        let mut command = Command::new(self.site.program_path());
        command.arg("complete").arg(example("centre"));
        command.args([&rule.dataset, "--rse", &rule.rse]).args(arguments);
        for set in self.centre_sets()? {
            command.arg("--set").arg(set);
        }
        let output = command.output().context("could not start dbb")?;
        let text = [output.stdout, output.stderr].concat();
        let status = output.status.code().context("dbb was killed")?;
        Ok((status, String::from_utf8_lossy(&text).into_owned()))
    }

    /// What `dbb reconcile` says of a site's RSE, asking Rucio: its exit status, and its sums of the Butler.
    pub fn reconcile(&self, rse: &str, arguments: &[&str]) -> Result<(i32, Value)> {
        let here = self.folder("reconcile")?;
        let lookup = Path::new(&here).join("lookup.yaml");
        fs::write(
            &lookup,
            json!({"rucio": {
                "url": self.rucio.url(), "account": Rucio::ACCOUNT,
                "auth": {"userpass": {"username": Rucio::USER, "password_env": "RUCIO_PASSWORD"}},
            }})
            .to_string(),
        )?;
        let mut command = Command::new(self.site.program_path());
        command
            .arg("reconcile")
            .arg(self.site.config())
            .args(["--json", "--rse", rse]);
        command.arg("--rucio").arg(&lookup).args(arguments);
        for set in self.site.sets() {
            command.arg("--set").arg(set);
        }
        let output = command.env("RUCIO_PASSWORD", Rucio::PASSWORD).output()?;
        let status = output.status.code().context("dbb was killed")?;
        let told: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{status}: {}", String::from_utf8_lossy(&output.stderr)))?;
        Ok((status, told["repositories"]["main"].clone()))
    }

    /// Puts that file where the demo's configuration was; only places are the test's own.
    pub(super) fn configure_site(&mut self) -> Result<()> {
        fs::copy(example("frdf"), self.site.config())?;
        let here = self.site.path().display().to_string();
        self.site
            .set(format!("source.kafka.brokers=[\"{}\"]", self.frdf.bootstrap()));
        self.site.set("source.kafka.discover_seconds=1");
        for (rse, prefix) in RSES {
            self.site.set(format!(
                "rses.{rse}.prefixes=[{{from: \"{prefix}\", to: \"{here}/rse/{rse}/\"}}]"
            ));
        }
        self.site
            .set(format!("repositories.main.butler={here}/repo/main"));
        self.site.set(format!(
            "repositories.main.worker.command=[\"{}\"]",
            python()?.display()
        ));
        self.site.set(format!("ledger.url=sqlite:{here}/ledger.sqlite"));
        self.site.set("gaps.patience_seconds=1");
        self.site.set("gaps.again_seconds=5");
        self.site.set("http.listen=null");
        Ok(())
    }

    fn centre_sets(&self) -> Result<Vec<String>> {
        let listings = self.folder("listings")?;
        Ok(vec![
            format!("source.kafka.brokers=[\"{}\"]", self.usdf.bootstrap()),
            "source.kafka.discover_seconds=1".into(),
            format!("source.listings={{folder: \"{listings}\", look_every_seconds: 1}}"),
            format!("sql.listen=\"127.0.0.1:{}\"", self.sql),
        ])
    }

    /// `dbb run` on one of the examples, with what is the test's own; it has a folder of its own.
    fn run(&self, name: &str, sets: &[String]) -> Result<Run> {
        let here = self.folder(name)?;
        let log = Path::new(&here).join("dbb.log");
        let mut program = Program::new(self.site.program_path(), &log)
            .arg("run")
            .arg(example(name))
            .args(["--set", "http.listen=null", "--set"])
            .arg(format!("ledger.url=sqlite:{here}/ledger.sqlite"))
            .env("RUCIO_PASSWORD", Rucio::PASSWORD)
            .current_dir(&here);
        for set in sets {
            program = program.arg("--set").arg(set);
        }
        Run::start(program, log)
    }

    pub(super) fn folder(&self, name: &str) -> Result<String> {
        let folder = self.site.path().join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder.display().to_string())
    }
}

/// A configuration that `docs/federation.md` explains.
fn example(name: &str) -> PathBuf {
    root().join(format!("deploy/federation/{name}.yaml"))
}
