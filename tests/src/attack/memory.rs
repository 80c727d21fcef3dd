//! Memory: what a process has, looked at all the while.

use anyhow::{Context, Result};
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// The memory of a process that is in use now, in MiB.
pub(super) fn resident_mib(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().next())
        .context("no VmRSS")?
        .parse()?;
    Ok(kib / 1024)
}

/// The most that a process had since [`forget_peak`], in MiB, as the system kept it: no peak is too short to be seen.
pub(super) fn peak_mib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

/// From now on a peak is looked for anew.
pub(super) fn forget_peak(process: u32) {
    // Where it cannot be forgotten, the report names later statements than the one it was.
    let _ = fs::write(format!("/proc/{process}/clear_refs"), "5");
}

/// The most that a process had since it was last asked.
pub(super) struct Most {
    most: Arc<AtomicU64>,
    process: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Most {
    pub(super) fn of(process: u32) -> Self {
        let (most, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let process = Arc::new(AtomicU64::new(process.into()));
        let looked = (Arc::clone(&most), Arc::clone(&process), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let (most, process, stop) = looked;
            while !stop.load(Relaxed) {
                let process = u32::try_from(process.load(Relaxed)).unwrap_or(0);
                // A process that has gone has none.
                most.fetch_max(resident_mib(process).unwrap_or(0), Relaxed);
                thread::sleep(PAUSE);
            }
        });
        Self {
            most,
            process,
            stop,
            thread: Some(thread),
        }
    }

    /// Looks at another process from now on.
    pub(super) fn follow(&self, process: u32) {
        self.process.store(process.into(), Relaxed);
    }

    /// The most since the last call, in MiB.
    pub(super) fn take(&self) -> u64 {
        self.most.swap(0, Relaxed)
    }
}

impl Drop for Most {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
