//! How much memory does a replica take, and how long does a change take, with millions of them?
//!
//! ```text
//! cargo run --release -p dbb-bench --example replicas_memory -- 6 names spread
//! ```
//!
//! The millions of replicas to go up to; `names` keeps names, of 80 bytes; `spread` brings the first replica of all
//! files, then the second of all, and so on, instead of one file after the other. Each file has 4 replicas. At each
//! million from 3 on it tells the greatest resident memory so far, less what the process had before the first
//! change; at the end, how long repeats and newer changes of random replicas take.

// A measurement reports its failure by stopping.
#![allow(clippy::expect_used, clippy::print_stdout)]

use dbb_events::Micros;
use dbb_operators::{
    Epoch,
    facts::{Basis, Change, DidKey, DidName, RseName, ScopeName, State},
    publish::Publisher,
    replicas::{Keeping, replicas},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use timely::dataflow::{
    InputHandle, ProbeHandle,
    operators::{Input, Probe},
};

const FILES_OF_ONE: u64 = 4;
const BLOCK: u64 = 10_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let millions: u64 = arguments
        .next()
        .map_or(6, |n| n.parse().expect("millions of replicas"));
    let rest: Vec<String> = arguments.collect();
    let has = |word: &str| rest.iter().any(|argument| argument == word);
    let (with_names, spread, live) = (has("names"), has("spread"), has("live"));
    timely::execute_directly(move |worker| {
        let mut changes = InputHandle::new();
        let mut names = InputHandle::new();
        let mut completes = InputHandle::new();
        let probe = ProbeHandle::<Epoch>::new();
        let keeping = Keeping {
            eager: !live,
            names: with_names,
            publisher: Some(Arc::new(Publisher::new(0))),
            ..Keeping::default()
        };
        worker.dataflow(|scope| {
            let out = replicas(
                scope.input_from(&mut changes),
                scope.input_from(&mut names),
                scope.input_from(&mut completes),
                keeping,
                |_| {},
            );
            out.sums.inner.probe_with(&probe);
        });
        completes.close();
        let files = millions * 1_000_000 / FILES_OF_ONE;
        let place = |n: u64| {
            if spread {
                (n % files, n / files)
            } else {
                (n / FILES_OF_ONE, n % FILES_OF_ONE)
            }
        };
        let rses: Vec<RseName> = (0..20).map(|n| RseName::new(&format!("RSE_{n}"))).collect();
        let scope = ScopeName::new("raw");
        let text = |file: u64| {
            format!("LSSTCam/20261121/MC_O_20261121_{file:09}/MC_O_20261121_{file:09}_R22_S11.fits.fz")
        };
        assert_eq!(text(1).len(), 80);
        let change = |file: u64, replica: u64, at: i64, state: State| Change {
            did: DidKey::new("raw", &text(file)),
            at: Micros(1_790_000_000_000_000 + at),
            tie: file.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            bytes: 20_000_000 + file,
            rse: rses.get(((file + replica * 5) % 20) as usize).copied(),
            scope,
            adler32: file as u32 + 1,
            state,
            basis: Basis::Event,
        };
        let mut epoch = 0;
        let mut step = |mut block: Vec<Change>, mut named: Vec<DidName>| {
            let start = Instant::now();
            changes.send_batch(&mut block);
            names.send_batch(&mut named);
            epoch += 1;
            changes.advance_to(epoch);
            names.advance_to(epoch);
            while probe.less_than(&epoch) {
                worker.step();
            }
            start.elapsed()
        };
        let before = status("VmRSS:");
        let mut spent = Duration::ZERO;
        for n in (0..millions * 1_000_000).step_by(BLOCK as usize) {
            let (mut block, mut named) = (Vec::new(), Vec::new());
            for n in n..n + BLOCK {
                let (file, replica) = place(n);
                if with_names && replica == 0 {
                    let name = text(file).into();
                    named.push(DidName {
                        did: DidKey::new("raw", &text(file)),
                        scope,
                        name,
                    });
                }
                block.push(change(file, replica, n as i64, State::Copying));
            }
            spent += step(block, named);
            let done = n + BLOCK;
            if done.is_multiple_of(1_000_000) && done >= 3_000_000 {
                let (peak, now) = (status("VmHWM:") - before, status("VmRSS:") - before);
                println!(
                    "{done} replicas: peak {:.1}, now {:.1} bytes each, {} ns each",
                    peak as f64 / done as f64,
                    now as f64 / done as f64,
                    spent.as_nanos() as u64 / done,
                );
            }
        }
        for (what, at, state) in [
            ("repeats", 0, State::Copying),
            ("newer", 100_000_000, State::Available),
        ] {
            let mut spent = Duration::ZERO;
            let mut random = 1u64;
            let count = 1_000_000;
            for _ in 0..count / BLOCK {
                let block = (0..BLOCK)
                    .map(|_| {
                        random = random
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        let n = (random >> 20) % (millions * 1_000_000);
                        let (file, replica) = place(n);
                        change(file, replica, n as i64 + at, state)
                    })
                    .collect();
                spent += step(block, Vec::new());
            }
            println!("{what}: {} ns each", spent.as_nanos() as u64 / count);
        }
        println!("at the end: peak {} MB", (status("VmHWM:") - before) / 1_000_000);
    });
}

/// A line of `/proc/self/status`, in bytes.
fn status(line: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let kilobytes = text
        .lines()
        .find_map(|l| l.strip_prefix(line))
        .and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.expect("a line of memory") * 1024
}
