//! Workers: the threads of a dataflow, on this process alone or as part of a cluster.

use super::{Members, link::Link};
use anyhow::Context;
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use timely::{
    communication::{
        Hooks, WorkerGuards,
        allocator::{
            AllocatorBuilder, ProcessBuilder, zero_copy::initialize::initialize_networking_from_sockets,
        },
    },
    worker::Worker,
};

/// Longest that workers of a process that has failed may take to leave.
const LEAVING: Duration = Duration::from_secs(5);

/// Workers that run.
pub struct Workers {
    guards: WorkerGuards<()>,
    members: Option<Arc<Members>>,
}

/// Starts `workers` workers here, which work with those of the other processes if there are `members`.
///
/// # Errors
///
/// The system gives no threads.
pub fn execute(
    workers: usize,
    members: Option<Arc<Members>>,
    work: impl Fn(&mut Worker) + Send + Sync + 'static,
) -> anyhow::Result<Workers> {
    let guards = match &members {
        None => timely::execute(timely::Config::process(workers), work).map_err(anyhow::Error::msg),
        Some(members) => connected(workers, members, work),
    };
    Ok(Workers {
        guards: guards.context("could not start the workers")?,
        members,
    })
}

fn connected(
    workers: usize,
    members: &Arc<Members>,
    work: impl Fn(&mut Worker) + Send + Sync + 'static,
) -> anyhow::Result<WorkerGuards<()>> {
    let place = members.place();
    let mut streams = members.take_links();
    let links = (0..place.processes)
        .map(|process| {
            let stream = streams.remove(&process)?;
            Some(Link::new(stream, Arc::clone(members), process))
        })
        .collect();
    let hooks = Hooks::default();
    let local = ProcessBuilder::new_typed_vector(workers, hooks.refill.clone(), hooks.spill.clone());
    let (builders, guard) = initialize_networking_from_sockets(local, links, place.process, workers, hooks)?;
    let builders = builders.into_iter().map(AllocatorBuilder::Tcp).collect();
    let settings = timely::WorkerConfig::default();
    timely::execute::execute_from(builders, Box::new(guard), settings, work).map_err(anyhow::Error::msg)
}

impl Workers {
    /// Waits for the workers, of a cluster also for those of the others; the errors of those that failed.
    pub fn join(self) -> Vec<String> {
        let errors = self.guards.join().into_iter().filter_map(Result::err).collect();
        if let Some(members) = &self.members {
            members.leave();
        }
        errors
    }

    /// Ends this process's part in a cluster because it has failed: the others are told `reason`, and nobody is
    /// waited for. True if the workers have left; this process is to end with its own status either way.
    pub fn abandon(self, reason: &str, taken_over: bool) -> bool {
        let Some(members) = &self.members else {
            self.join();
            return true;
        };
        members.fail(reason, taken_over);
        let begun = Instant::now();
        while !self.have_left() && begun.elapsed() < LEAVING {
            thread::sleep(Duration::from_millis(10));
        }
        let left = self.have_left();
        // Its threads wait for the goodbye of others, who are ending at this moment without one.
        std::mem::forget(self.guards);
        left
    }

    /// True once all workers of this process have left; joining then waits for other processes alone.
    pub fn have_left(&self) -> bool {
        self.guards.guards().iter().all(thread::JoinHandle::is_finished)
    }

    /// True if there are other processes.
    pub fn is_part(&self) -> bool {
        self.members.is_some()
    }
}
