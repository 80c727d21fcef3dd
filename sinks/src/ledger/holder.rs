//! The holder: who writes to the ledger now, and how a newcomer learns whether it still lives.
//!
//! ```text
//!   newcomer --> it has ended, its process is gone, it has our name? --yes--> the ledger is ours
//!                      \--no--> it beats, or its process is there? --10 s--> held: not ours
//!                                       \--neither, for 10 s --------------> the ledger is ours
//! ```
//!
//! State: one row: who, and a count that rises every [`BEAT`].
//!
//! A process of this machine (and container) is looked for; of any other only beats tell. They are counted, not dated:
//! no clock that jumps makes a living holder look dead. Only PostgreSQL's own clock is believed where it says that
//! the last beat is long ago. Whoever was wrong about it is [`LedgerError::Fenced`], and nothing is written twice.

use crate::ledger::{Generation, Ledger, LedgerError, Process, Who, row::Reader, store::Value};
use std::time::{Duration, Instant};
use tracing::info;

/// Between two beats of whoever holds the ledger.
pub(super) const BEAT: Duration = Duration::from_secs(2);
/// Without a beat for so long a holder is dead; and so long a newcomer waits for one that lives to leave.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks of a newcomer.
const LOOK: Duration = Duration::from_millis(200);

/// Who holds the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Under which generation.
    pub generation: Generation,
    /// Who.
    pub who: Who,
    /// It has let go of it.
    pub has_ended: bool,
    /// Beats so far.
    pub beats: i64,
    /// Microseconds since the last beat, by the database's clock.
    pub silent_us: i64,
}

/// What is believed of a holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belief {
    Gone(&'static str),
    /// Its process is there.
    Lives,
    /// Only beats tell.
    Unknown,
}

impl Holder {
    /// `is_file` where the ledger is on a disk of this machine: then no other machine holds it, and no clock but this
    /// machine's tells the time.
    fn belief(&self, who: &Who, is_file: bool) -> Belief {
        if self.has_ended {
            return Belief::Gone("it has ended");
        }
        if !who.instance.is_empty() && self.who.instance == who.instance {
            return Belief::Gone("it has the same instance name");
        }
        if self.who.process == who.process && !who.process.boot.is_empty() {
            return Belief::Gone("it is this process");
        }
        match self.who.process.is_there() {
            Some(true) => return Belief::Lives,
            Some(false) => return Belief::Gone("its process is gone"),
            None => {}
        }
        let boots = [&self.who.process.boot, &who.process.boot];
        if is_file && self.who.host == who.host && boots[0] != boots[1] && boots.iter().all(|b| !b.is_empty())
        {
            return Belief::Gone("the machine was started again");
        }
        if !is_file && self.silent_us >= i64::try_from(PATIENCE.as_micros()).unwrap_or(i64::MAX) {
            return Belief::Gone("it was not heard of for long");
        }
        Belief::Unknown
    }
}

impl Ledger {
    /// Takes the ledger once nobody else holds it. Of one that lives it is waited for a moment that it leaves;
    /// `is_stopped` ends the waiting.
    ///
    /// # Errors
    /// [`LedgerError::Held`] if another process holds it, and lives.
    pub fn hold(&mut self, who: &Who, is_stopped: &dyn Fn() -> bool) -> Result<Generation, LedgerError> {
        let is_file = self.settings.sqlite_path().is_some();
        let begun = Instant::now();
        // The last beat of the holder that was seen, and when it was seen first.
        let mut seen: Option<((Generation, i64), Instant)> = None;
        let mut was_heard = false;
        loop {
            let Some(holder) = self.holder()? else {
                if let Some(generation) = self.take(who, None)? {
                    return Ok(generation);
                }
                continue;
            };
            let beat = (holder.generation, holder.beats);
            let since = match seen {
                Some((last, since)) if last == beat => since,
                Some(_) => {
                    was_heard = true;
                    Instant::now()
                }
                None => Instant::now(),
            };
            let is_first = seen.is_none();
            seen = Some((beat, since));
            let believed = holder.belief(who, is_file);
            let gone = match believed {
                Belief::Gone(why) => Some(why),
                Belief::Unknown if since.elapsed() >= PATIENCE => Some("it does not beat"),
                Belief::Lives | Belief::Unknown => None,
            };
            if let Some(why) = gone {
                if let Some(generation) = self.take(who, Some(&holder))? {
                    if !holder.has_ended {
                        info!(
                            host = holder.who.host,
                            pid = holder.who.process.pid,
                            since = %holder.who.started_at,
                            why,
                            "taking the ledger over from a dbb that is gone"
                        );
                    }
                    return Ok(generation);
                }
                // It was heard of in between, or another newcomer was faster.
                continue;
            }
            let lives = believed == Belief::Lives || was_heard;
            if is_stopped() || (begun.elapsed() >= PATIENCE && lives) {
                return Err(LedgerError::Held {
                    what: self.settings.shown_url(),
                    host: holder.who.host,
                    pid: holder.who.process.pid,
                    since: holder.who.started_at,
                });
            }
            if is_first {
                info!(
                    host = holder.who.host,
                    pid = holder.who.process.pid,
                    since = %holder.who.started_at,
                    "another dbb holds the ledger: waiting for a moment whether it leaves"
                );
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Begins a generation if the holder is still as it was seen; `None` if it is not.
    fn take(&mut self, who: &Who, seen: Option<&Holder>) -> Result<Option<Generation>, LedgerError> {
        self.transaction(None, |ledger| {
            let now = ledger.holder()?;
            let as_seen = match (&now, seen) {
                (None, None) => true,
                (Some(now), Some(seen)) => {
                    (now.generation, now.beats, now.has_ended)
                        == (seen.generation, seen.beats, seen.has_ended)
                }
                _ => false,
            };
            if !as_seen {
                return Ok(None);
            }
            ledger.begin_within(who).map(Some)
        })
    }

    /// The generation that holds the ledger, and who began it; `None` before the first.
    pub fn holder(&mut self) -> Result<Option<Holder>, LedgerError> {
        let sql = format!(
            "SELECT generation, started_at, pid, process_start, beats, {} - beat_at, ended, \
             host, boot, space, instance, version FROM holder WHERE id = 1",
            self.store.clock()
        );
        let rows = self.store.query(&sql, &[])?;
        Ok(rows.into_iter().next().map(|cells| {
            let mut r = Reader::new(cells);
            let generation = Generation(r.int().unwrap_or(0));
            let started_at = r.micros().unwrap_or_default();
            let pid = r.int().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
            let started = r.int().unwrap_or(0);
            let (beats, silent_us) = (r.int().unwrap_or(0), r.int().unwrap_or(0));
            let has_ended = r.int().unwrap_or(0) != 0;
            let host = r.text().unwrap_or_default();
            let process = Process {
                pid,
                started,
                boot: r.text().unwrap_or_default(),
                space: r.text().unwrap_or_default(),
            };
            let who = Who {
                host,
                process,
                started_at,
                instance: r.text().unwrap_or_default(),
                version: r.text().unwrap_or_default(),
            };
            Holder {
                generation,
                who,
                has_ended,
                beats,
                silent_us,
            }
        }))
    }

    /// Says that the process of this generation lives.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] if another has taken over.
    pub fn beat(&mut self, generation: Generation) -> Result<(), LedgerError> {
        let sql = format!(
            "UPDATE holder SET beats = beats + 1, beat_at = {} WHERE id = 1 AND generation = $1",
            self.store.clock()
        );
        if self.store.execute(&sql, &[Value::Int(generation.0)])? > 0 {
            return Ok(());
        }
        let newest = self.holder()?.map_or(0, |holder| holder.generation.0);
        Err(LedgerError::Fenced {
            ours: generation.0,
            newest,
        })
    }

    /// Lets go of the ledger: the next process need not wait.
    pub fn let_go(&mut self, generation: Generation) -> Result<(), LedgerError> {
        let sql = "UPDATE holder SET ended = 1 WHERE id = 1 AND generation = $1";
        self.store.execute(sql, &[Value::Int(generation.0)]).map(|_| ())
    }

    pub(super) fn write_holder(&mut self, generation: Generation, who: &Who) -> Result<(), LedgerError> {
        self.store.execute("DELETE FROM holder", &[])?;
        let sql = format!(
            "INSERT INTO holder (id, generation, started_at, pid, process_start, beats, beat_at, ended, \
             host, boot, space, instance, version) VALUES (1, $1, $2, $3, $4, 0, {}, 0, $5, $6, $7, $8, $9)",
            self.store.clock()
        );
        let process = &who.process;
        self.store.execute(
            &sql,
            &[
                Value::Int(generation.0),
                Value::Int(who.started_at.0),
                Value::Int(process.pid.into()),
                Value::Int(process.started),
                who.host.as_str().into(),
                process.boot.as_str().into(),
                process.space.as_str().into(),
                who.instance.as_str().into(),
                who.version.as_str().into(),
            ],
        )?;
        Ok(())
    }
}
