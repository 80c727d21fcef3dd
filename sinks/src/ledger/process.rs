//! Processes of this machine: which one this is, and whether another is still there.
//!
//! A process is told by its number and the time at which it started, for numbers come again; and by the boot of the
//! machine and the namespace in which it has that number, for containers count on their own.

use rustix::process::{Pid, test_kill_process};

/// A process, as far as the system tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in the system's ticks after the boot; 0 where that is not known.
    pub started: i64,
    /// The boot of its machine; empty where that is not known.
    pub boot: String,
    /// The namespace in which it has this number; likewise.
    pub space: String,
}

impl Process {
    /// This one.
    pub fn this() -> Self {
        let pid = std::process::id();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let space = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        Self {
            pid,
            started: stat(pid).map_or(0, |(_, started)| started),
            boot: boot.trim().to_owned(),
            space: space.to_string_lossy().into_owned(),
        }
    }

    /// Whether it is there; `None` where that cannot be seen from here: another machine, another container.
    pub fn is_there(&self) -> Option<bool> {
        let here = Self::this();
        if self.boot.is_empty() || self.space.is_empty() || self.boot != here.boot || self.space != here.space
        {
            return None;
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw)?;
        // Asked first: where processes of other users are hidden, they have no folder and are there all the same.
        if test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
            return Some(false);
        }
        Some(match stat(self.pid) {
            Some((state, started)) => {
                !matches!(state, 'Z' | 'X') && (self.started == 0 || started == self.started)
            }
            None => true,
        })
    }
}

/// The state of a process and when it started.
fn stat(pid: u32) -> Option<(char, i64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything; what follows the last one does not.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_there_until_it_has_ended_even_if_nobody_has_asked_how() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let process = Process {
            pid: child.id(),
            started: stat(child.id()).unwrap().1,
            ..Process::this()
        };
        assert_eq!(process.is_there(), Some(true));
        let earlier = Process {
            started: process.started - 1,
            ..process.clone()
        };
        assert_eq!(earlier.is_there(), Some(false), "its number was given again");
        child.kill().unwrap();
        // Killed, and not waited for: its number is still taken.
        let mut is_there = Some(true);
        for _ in 0..500 {
            is_there = process.is_there();
            if is_there == Some(false) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(is_there, Some(false));
        child.wait().unwrap();
        assert_eq!(process.is_there(), Some(false));
    }

    #[test]
    fn of_another_machine_or_container_nothing_is_seen() {
        let this = Process::this();
        assert_eq!(this.is_there(), Some(true));
        for elsewhere in [
            Process {
                boot: "another".into(),
                ..this.clone()
            },
            Process {
                space: "pid:[1]".into(),
                ..this.clone()
            },
            Process {
                boot: String::new(),
                ..this
            },
        ] {
            assert_eq!(elsewhere.is_there(), None);
        }
    }
}
