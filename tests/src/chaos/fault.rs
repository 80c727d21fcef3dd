//! Faults: what breaks, for how long, and how it comes back.

use super::cluster::{Cluster, PATIENCE_SECONDS};
use crate::Dice;
use anyhow::{Context, Result, ensure};
use dbb::runtime::fault::POINTS;
use dbb_test_services::{Kafka, Postgres};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

/// What can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// SIGKILL to a process.
    Kill,
    /// SIGKILL to all processes at once.
    KillAll,
    /// SIGSTOP to a process, and SIGCONT before the others give it up.
    Pause,
    /// SIGSTOP to a process, and SIGCONT after that.
    Freeze,
    /// SIGTERM: what is on its way is finished, and the next version takes over.
    Drain,
    /// The same, with another number of workers.
    Rescale,
    /// SIGTERM while there is no database.
    Stranded,
    /// A process ends between two steps of the way of a record, when it comes there after the next start.
    Step,
    /// SIGKILL to a Python worker.
    Worker,
    /// SIGKILL to a broker, which is started again.
    Broker,
    /// SIGSTOP to a broker for a moment.
    BrokerPause,
    /// SIGSTOP to a broker until its silence is noticed.
    BrokerFreeze,
    /// SIGKILL to PostgreSQL, which is started again.
    Database,
    /// PostgreSQL is stopped in good order, and started again.
    DatabaseStop,
    /// The links between processes are cut for a moment.
    Flicker,
    /// The links between processes are cut until they give each other up.
    Cut,
    /// The folder of the checkpoints is full for a while.
    DiskFull,
}

use Fault::{
    Broker, BrokerFreeze, BrokerPause, Cut, Database, DatabaseStop, DiskFull, Drain, Flicker, Freeze, Kill,
    KillAll, Pause, Rescale, Step, Stranded, Worker,
};

/// How many there are.
pub(super) const FAULTS: usize = 17;

/// Of these, one each round: what is seldom in life is seldom here.
const OFTEN: [Fault; 24] = [
    Kill,
    Kill,
    Kill,
    Kill,
    KillAll,
    Pause,
    Pause,
    Freeze,
    Drain,
    Rescale,
    Rescale,
    Stranded,
    Step,
    Step,
    Worker,
    Worker,
    Broker,
    BrokerPause,
    BrokerFreeze,
    Database,
    DatabaseStop,
    Flicker,
    Cut,
    DiskFull,
];

/// What faults work on.
pub(super) struct Victims<'v> {
    pub(super) kafka: &'v mut Kafka,
    pub(super) postgres: &'v mut Postgres,
    /// The disk of the checkpoints, where there is one that may be filled.
    pub(super) disk: Option<&'v Disk>,
}

impl Fault {
    /// The fault of a round: each once at first.
    pub(super) fn of_round(round: usize, dice: &mut Dice) -> Self {
        const FIRST: [Fault; FAULTS] = [
            Kill,
            Drain,
            Step,
            Database,
            Worker,
            Rescale,
            Pause,
            Freeze,
            Flicker,
            Cut,
            DiskFull,
            KillAll,
            Stranded,
            BrokerPause,
            BrokerFreeze,
            DatabaseStop,
            Broker,
        ];
        match FIRST.get(round) {
            Some(fault) => *fault,
            None => dice.one_of(&OFTEN).copied().unwrap_or(Kill),
        }
    }

    /// Lets it happen, and ends it.
    pub(super) fn strike(
        self,
        on: &mut Victims<'_>,
        cluster: &mut Cluster<'_>,
        dice: &mut Dice,
    ) -> Result<Vec<String>> {
        let one = dice.below(cluster.processes() as u64) as usize;
        let a_moment = Duration::from_millis(100 + dice.below(1500));
        let too_long = Duration::from_millis(PATIENCE_SECONDS * 1000 + 2000 + dice.below(2000));
        match self {
            Kill => cluster.process(one)?.signal("KILL")?,
            KillAll => cluster.kill()?,
            Pause | Freeze => {
                cluster.process(one)?.signal("STOP")?;
                thread::sleep(if self == Pause { a_moment } else { too_long });
                cluster.process(one)?.signal("CONT")?;
            }
            Drain => return cluster.drain(),
            Rescale => {
                let wrong = cluster.drain()?;
                cluster.workers = 1 + dice.below(3) as usize;
                return Ok(wrong);
            }
            Stranded => {
                on.postgres.stop()?;
                let whole = cluster.ask_to_stop()?;
                thread::sleep(a_moment);
                on.postgres.start_again()?;
                return cluster.drained(whole);
            }
            Step => {
                cluster.kill()?;
                let point = dice.one_of(&POINTS).copied().unwrap_or("polled");
                // Where one process writes for all, it is the first.
                let first = point.starts_with("ledger") || point.starts_with("manifest");
                let process = if first { 0 } else { one };
                cluster.fault = Some((process, format!("{point}:{}", 1 + dice.below(3))));
            }
            Worker => {
                let workers = cluster.butler_workers();
                if let Some(worker) = dice.one_of(&workers) {
                    // It may have just ended by itself.
                    let _ = signal(*worker, "KILL");
                }
            }
            Broker => on.kafka.restart(dice.below(3) as usize)?,
            BrokerPause | BrokerFreeze => {
                let broker = dice.below(3) as usize;
                on.kafka.signal(broker, "STOP")?;
                thread::sleep(if self == BrokerPause { a_moment } else { too_long });
                on.kafka.signal(broker, "CONT")?;
            }
            Database => {
                on.postgres.kill()?;
                thread::sleep(a_moment);
                on.postgres.start_again()?;
            }
            DatabaseStop => {
                on.postgres.stop()?;
                thread::sleep(a_moment);
                on.postgres.start_again()?;
            }
            Flicker | Cut => {
                cluster.links.iter().for_each(|link| link.set_cut(true));
                thread::sleep(if self == Flicker { a_moment } else { too_long });
                cluster.links.iter().for_each(|link| link.set_cut(false));
            }
            DiskFull => {
                if let Some(disk) = on.disk {
                    disk.fill()?;
                    // More than one checkpoint is due meanwhile.
                    thread::sleep(a_moment + Duration::from_millis(1500));
                    disk.free()?;
                }
            }
        }
        Ok(Vec::new())
    }
}

/// Sends a signal; false if there is no such process.
fn signal(process: u32, name: &str) -> Result<bool> {
    let done = Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .output()?;
    Ok(done.status.success())
}

/// A small disk of its own.
#[derive(Debug)]
pub(super) struct Disk(PathBuf);

impl Disk {
    /// Mounted at `folder`; none where that is not allowed.
    pub(super) fn mount(folder: &Path) -> Result<Option<Self>> {
        fs::create_dir_all(folder)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
            .arg(folder)
            .output()
            .context("could not start mount")?;
        Ok(mounted.status.success().then(|| Self(folder.into())))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    fn fill(&self) -> Result<()> {
        // It ends when nothing more goes in.
        let filled = fs::write(self.filler(), vec![0u8; 80 << 20]);
        ensure!(filled.is_err(), "the small disk does not get full");
        Ok(())
    }

    fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still writes there is about to end.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
