//! The files of `deploy/`: their command lines, run as they are but for where things lie.

use crate::{DBB, published, site};
use anyhow::{Context, Result, ensure};
use dbb_sinks::ledger::State;
use dbb_test_services::{Program, root};
use dbb_tests::{Run, Site, books::Again, cluster::Cluster};
use std::fs;

/// The text of a file of `deploy/`.
fn file(path: &str) -> Result<String> {
    fs::read_to_string(root().join("deploy").join(path)).with_context(|| path.to_owned())
}

/// Runs two processes by these shell commands until all is done, and stops one.
fn drains(site: &Site, cluster: &mut Cluster<'_>, commands: [String; 2]) -> Result<()> {
    // What the files expect under /etc.
    let etc = site.path().join("etc/dbb");
    fs::create_dir_all(&etc)?;
    let token = etc.join("token");
    fs::write(&token, "open sesame")?;
    let config = fs::read_to_string(site.config())?;
    let section = format!("\ncluster: {{token: {{file: {}}}}}\n", token.display());
    fs::write(etc.join("site.yaml"), config + &section)?;
    fs::write(etc.join("hosts"), cluster.addresses.join("\n"))?;
    for (process, command) in commands.into_iter().enumerate() {
        let command = command
            .replace("/usr/bin/dbb", DBB)
            .replace("/etc/dbb", &etc.display().to_string());
        let log = site.path().join(format!("deploy-{process}.log"));
        let program = Program::new("/bin/sh", &log)
            .args(["-c", &command])
            .current_dir(site.path());
        cluster.runs[process] = Some(Run::start(program, log)?);
    }
    cluster.until_whole()?;
    let expected = site.expected()?.totals.events;
    cluster.until("all is done", || Ok(site.count(State::is_settled)? >= expected))?;
    cluster.terminate(1)?;
    site.prove(Again::Perhaps)
}

#[test]
fn the_command_of_the_systemd_unit_runs() -> Result<()> {
    let unit = file("systemd/dbb@.service")?;
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart="));
    let command = command.context("the unit starts nothing")?;
    ensure!(unit.contains("RestartPreventExitStatus=78"), "{unit}");
    let site = site("CLH", "--files 20 --faults none")?;
    published(&site)?;
    let mut cluster = Cluster::of(&site, "unit", 2)?;
    let commands = [0, 1].map(|process| format!("exec {}", command.replace("%i", &process.to_string())));
    drains(&site, &mut cluster, commands)
}

#[test]
fn the_command_of_the_stateful_set_runs() -> Result<()> {
    let text = file("kubernetes/statefulset.yaml")?;
    let site = site("CLI", "--files 20 --faults none")?;
    published(&site)?;
    let mut cluster = Cluster::of(&site, "pods", 2)?;
    let begin = text.find("exec /usr/bin/dbb").context("it starts nothing")?;
    let command: Vec<&str> = text[begin..].lines().take(2).map(str::trim).collect();
    let (addresses, command) = (cluster.addresses.clone(), command.join(" "));
    let commands = [0, 1].map(|process: usize| {
        let port = addresses[process].rsplit(':').next().unwrap_or_default();
        let command = command
            .replace("0.0.0.0:2101", &format!("0.0.0.0:{port}"))
            .replace("0.0.0.0:9327", "127.0.0.1:0");
        format!("HOSTNAME=dbb-{process}; {command}")
    });
    drains(&site, &mut cluster, commands)
}
