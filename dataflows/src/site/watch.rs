//! The watch: what the main thread does while the workers work.
//!
//! It passes signals on, ends a run that has nothing left to do, and keeps metrics, health and the
//! progress bar up to date.

use super::{
    RunOptions,
    open::Lag,
    telling::OutcomesHealth,
    work::{Shared, now},
};
use crate::{checkpoint::Status, cluster::Members, runtime::Control};
use dbb_serving::{Health, Metrics};
use dbb_sinks::{
    butler::ButlerStats,
    ledger::{self, Ledger, LedgerError, health::Condition},
};
use dbb_sources::CatalogueStatus;
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// What a row may wait for, as metrics know it.
const CLASSES: [&str; 6] = ["dimension", "file", "repository", "labels", "embargo", "time"];

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks at what costs a query or a lock that others wait for.
const LOOK_CLOSELY: Duration = Duration::from_secs(2);
/// Nothing may have been on its way for this long before a run that is to end once ends: longer than
/// the ledger takes to see that a row has become due.
const QUIET: Duration = Duration::from_millis(500);
/// A run that is to end once waits for rows that are due within this time: a retry after a passing fault.
const LINGER_SECONDS: f64 = 5.0;
/// But not for ever: only while fewer wait than this long ago. What never comes is tried again and again.
const GIVE_UP: Duration = Duration::from_secs(10);
/// Beyond the time for draining, a process waits for as long to hear that all is done.
const LATE: Duration = Duration::from_secs(30);

/// What is watched.
pub(super) struct Watched {
    pub(super) control: Arc<Control>,
    /// The other processes, if there are any.
    pub(super) members: Option<Arc<Members>>,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Metrics,
    pub(super) ledger_health: ledger::health::Health,
    /// Where outcomes are told.
    pub(super) outcomes_health: Option<OutcomesHealth>,
    pub(super) repositories: Vec<(Arc<str>, Arc<ButlerStats>)>,
    pub(super) hub: Option<super::hub::Watched>,
    pub(super) ledger: Ledger,
    pub(super) lag: Lag,
    /// Where Rucio's table is followed.
    pub(super) catalogue: Option<CatalogueStatus>,
    /// How checkpoints are doing, where they are kept.
    pub(super) checkpoints: Option<Status>,
    pub(super) shared: Arc<Shared>,
}

/// The watch of one run.
pub(super) struct Watch {
    on: Watched,
    /// Starts of each repository's worker that were reported.
    starts: HashMap<Arc<str>, u64>,
    /// Gaps, and records missing of them, that were told of a lane and a state.
    gaps: BTreeMap<(Arc<str>, &'static str), (u64, u64)>,
    last_close_look: Option<Instant>,
    catching_up: bool,
}

/// The condition of views that do not have yet what was there at the start.
const CATCHING_UP: &str = "views";

/// Set when this process is asked to end.
///
/// # Errors
///
/// The handlers could not be set.
pub(super) fn signals() -> io::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // A second one ends the process at once.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))?;
        signal_hook::flag::register(signal, Arc::clone(&asked))?;
    }
    Ok(asked)
}

impl Watch {
    pub(super) fn new(on: Watched) -> Self {
        let catching_up = on.shared.live.is_some();
        if catching_up {
            on.health.fail(CATCHING_UP, "views are catching up");
        }
        Self {
            on,
            starts: HashMap::new(),
            gaps: BTreeMap::new(),
            last_close_look: None,
            catching_up,
        }
    }

    /// Gives the ledger's connection back.
    pub(super) fn into_ledger(self) -> Ledger {
        self.on.ledger
    }

    /// Returns when the workers have been told to leave.
    pub(super) fn until_finished(
        &mut self,
        options: &RunOptions,
        drain_seconds: u64,
        signals: Option<&AtomicBool>,
    ) {
        let bar = if options.progress {
            progress_bar()
        } else {
            ProgressBar::hidden()
        };
        let control = Arc::clone(&self.on.control);
        let members = self.on.members.clone();
        let first = self.on.shared.place.is_first();
        let finish = || {
            members.iter().for_each(|members| members.finish());
            control.finish();
        };
        let mut stopped: Option<Instant> = None;
        let mut quiet_since: Option<Instant> = None;
        let mut lately: Option<(u64, Instant)> = None;
        while !control.is_finished() {
            std::thread::sleep(LOOK);
            let asked = signals.is_some_and(|asked| asked.load(Ordering::Relaxed));
            let by = members.as_ref().and_then(|members| members.stopped_by());
            if stopped.is_none() && (asked || by.is_some()) {
                tracing::info!(by, "asked to stop: reading no more, waiting for outcomes");
                // It may have come from a process that all others have heard: telling them again does no harm.
                members.iter().for_each(|members| members.stop());
                control.stop();
                stopped = Some(Instant::now());
            }
            if control.silence() < super::STUCK {
                self.on.health.beat();
            }
            self.look_at_views();
            self.look_closely();
            let (ingested, dead) = self.on.shared.tally.shown();
            bar.set_position(self.on.shared.tally.records());
            bar.set_message(format!("{ingested} ingested, {dead} dead letters"));
            let mut drained = control.all_drained();
            if let Some(members) = &members {
                members.set_drained(drained);
                drained &= members.others_are_drained();
                if members.is_finished() {
                    control.finish();
                    continue;
                }
            }
            if !first {
                // The first process sees what is due, and says when all is done.
                let patience = Duration::from_secs(drain_seconds) + LATE;
                if stopped.is_some_and(|since| since.elapsed() > patience) {
                    control.fail("process 0 has not said in time that all is done");
                }
                continue;
            }
            if !drained {
                quiet_since = None;
                if let Some(since) = stopped
                    && since.elapsed() > Duration::from_secs(drain_seconds)
                {
                    tracing::warn!(
                        drain_seconds,
                        "not everything has an outcome yet: it will be read again"
                    );
                    members.iter().for_each(|members| members.finish());
                    control.leave();
                }
                continue;
            }
            let quiet = *quiet_since.get_or_insert_with(Instant::now);
            if stopped.is_some() {
                finish();
            } else if options.run_once && quiet.elapsed() >= QUIET {
                match self.more_is_due(&mut lately) {
                    Ok(true) => quiet_since = None,
                    Ok(false) => finish(),
                    Err(error) => {
                        tracing::warn!(%error, "could not ask the ledger what is due");
                        quiet_since = None;
                    }
                }
            }
        }
        bar.finish_and_clear();
    }

    /// True if rows are due soon, and waiting for them has been of use `lately`: the number of rows that
    /// wait, and since when it is that.
    fn more_is_due(&mut self, lately: &mut Option<(u64, Instant)>) -> Result<bool, LedgerError> {
        let next = self.on.ledger.next_due()?;
        if next.is_none_or(|at| at.seconds_since(now()) >= LINGER_SECONDS) {
            return Ok(false);
        }
        let waiting = self.on.ledger.waiting()?.iter().map(|rows| rows.count).sum();
        let since = match *lately {
            Some((before, since)) if before == waiting => since,
            _ => Instant::now(),
        };
        *lately = Some((waiting, since));
        Ok(since.elapsed() < GIVE_UP)
    }

    fn look_closely(&mut self) {
        if self
            .last_close_look
            .is_some_and(|last| last.elapsed() < LOOK_CLOSELY)
        {
            return;
        }
        self.last_close_look = Some(Instant::now());
        let on = &mut self.on;
        let (in_flight, oldest) = on.control.in_flight();
        on.metrics.progress(in_flight, oldest);
        if let Some(checkpoints) = &on.checkpoints {
            checkpoints.tell(now(), &on.metrics, &on.health);
        }
        match on.ledger_health.condition() {
            Condition::Ok => on.health.clear("ledger"),
            Condition::Failing { message, .. } | Condition::Fatal { message } => {
                on.health.fail("ledger", message)
            }
        }
        on.lag.tell(&on.metrics, &on.health);
        if let Some(catalogue) = &on.catalogue {
            match catalogue.trouble() {
                Some(trouble) => on.health.fail("catalogue", trouble),
                None => on.health.clear("catalogue"),
            }
        }
        if let Some(outcomes) = &on.outcomes_health {
            match outcomes.problem() {
                Some(problem) => on.health.fail("outcomes", problem),
                None => on.health.clear("outcomes"),
            }
        }
        if let Some(statistics) = on.lag.statistics() {
            on.metrics.bad_headers(statistics.snapshot().bad_headers_total);
        }
        self.look_at_repositories();
        if let Some(hub) = &self.on.hub {
            hub.tell(&self.on.metrics, &self.on.health);
        }
        if !self.on.shared.place.is_first() {
            // One process tells of the ledger that all share.
            return;
        }
        if !self.on.ledger_health.is_ok() {
            // It would hold this thread up, and with it what others are told.
            return;
        }
        let on = &mut self.on;
        let mut waiting: BTreeMap<&'static str, (u64, f64)> =
            CLASSES.into_iter().map(|class| (class, (0, 0.0))).collect();
        match on.ledger.waiting() {
            Ok(rows) => {
                for row in rows {
                    let class = match row.class.as_ref() {
                        "released" => "labels",
                        class => class,
                    };
                    if let Some((count, oldest)) = waiting.get_mut(class) {
                        *count += row.count;
                        *oldest = oldest.max(now().seconds_since(row.oldest));
                    }
                }
                for (class, (count, oldest)) in waiting {
                    on.metrics.waiting(class, count, oldest);
                }
            }
            Err(error) => tracing::debug!(%error, "could not ask the ledger what waits"),
        }
        if let Ok(bytes) = on.ledger.size_bytes() {
            on.metrics.ledger_size(bytes);
        }
        self.look_at_gaps();
    }

    fn look_at_gaps(&mut self) {
        if self.on.shared.following.is_none() {
            return;
        }
        let sums = match self.on.ledger.gap_sums() {
            Ok(sums) => sums,
            Err(error) => {
                tracing::debug!(%error, "could not ask the ledger what is missing");
                return;
            }
        };
        // What is over stays in the numbers, as none.
        for (gaps, records) in self.gaps.values_mut() {
            (*gaps, *records) = (0, 0);
        }
        for sum in sums {
            let key = (sum.lane.to_string().into(), sum.state.as_str());
            self.gaps.insert(key, (sum.gaps, sum.records));
        }
        for ((lane, state), (gaps, records)) in &self.gaps {
            self.on.metrics.missing(lane, state, *gaps, *records);
        }
    }

    /// Until all that was there at the start is in what is published.
    fn look_at_views(&mut self) {
        let Some(live) = self.on.shared.live.as_ref().filter(|_| self.catching_up) else {
            return;
        };
        let published = live.publisher.newest().map(|published| published.epoch);
        let caught_up = self.on.control.caught_up();
        if caught_up.is_some_and(|caught_up| published.is_some_and(|published| published >= caught_up)) {
            self.catching_up = false;
            tracing::info!("views have caught up with their source");
            self.on.health.clear(CATCHING_UP);
        }
    }

    fn look_at_repositories(&mut self) {
        for (name, stats) in &self.on.repositories {
            let now = stats.snapshot();
            let seen = self.starts.entry(Arc::clone(name)).or_default();
            let condition = format!("repository {name}");
            if now.down {
                self.on.health.fail(&condition, &now.trouble);
            } else if let Some(silent) = stats.silent() {
                let message = format!("its worker has not answered for {} s", silent.as_secs());
                self.on.health.fail(&condition, message);
            } else {
                self.on.health.clear(&condition);
            }
            for _ in (*seen).max(1)..now.worker_starts {
                self.on.metrics.worker_restarted(name);
            }
            *seen = now.worker_starts;
        }
    }
}

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {pos} records, {per_sec}, {msg} [{elapsed}]");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}
