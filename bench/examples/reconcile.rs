//! How long does it take, and how much memory, to set a million replicas beside the datasets of a Butler?
//!
//! ```text
//! cargo run --release -p dbb-bench --example reconcile -- 1000000
//! ```
//!
//! Replicas and datasets come in no order; one in ten of each has no like. What Rucio and the Butler take to tell of
//! theirs is not in it.

// A measurement reports its failure by stopping.
#![allow(clippy::expect_used, clippy::print_stdout)]

use dbb_events::{Did, Rse};
use dbb_sinks::sheet::{Replica, Sheet, SheetError};
use std::time::Instant;
use uuid::Uuid;

fn main() -> Result<(), SheetError> {
    let files: u64 = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(1_000_000);
    let mut sheet = Sheet::new()?;
    let start = Instant::now();
    for n in 0..files {
        let name = name(shuffled(n, files));
        let replica = Replica {
            did: Did::new("raw", name.as_str()),
            rse: Rse::new("IN2P3_RAW_DISK"),
            is_available: true,
            bytes: Some(20_000_000),
            adler32: Some("0a1b2c3d".into()),
            url: Some(format!("davs://ccdavrubinint.in2p3.fr:2880/pnfs/lsst/raw/{name}")),
        };
        sheet.list(&replica, &[uri(&name)])?;
    }
    told("replicas listed", files, start);
    let start = Instant::now();
    for n in 0..files {
        let n = shuffled(n ^ 1, files) + files / 10;
        sheet.store(
            &uri(&name(n)),
            Uuid::from_u64_pair(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n),
        )?;
    }
    told("datasets stored", files, start);
    let (mut matched, mut missing, mut unexpected) = (0u64, 0u64, 0u64);
    let start = Instant::now();
    sheet.matched::<SheetError>(&mut |_, _, _| {
        matched += 1;
        Ok(())
    })?;
    sheet.missing::<SheetError>(&mut |_| {
        missing += 1;
        Ok(())
    })?;
    sheet.unexpected::<SheetError>(&mut |_, _| {
        unexpected += 1;
        Ok(())
    })?;
    told("compared", files, start);
    println!("{matched} in both, {missing} missing, {unexpected} unexpected");
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or("");
    println!("peak memory: {}", peak.trim_start_matches("VmHWM:").trim());
    Ok(())
}

fn told(what: &str, files: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!("{what}: {seconds:.1} s, {:.0} a second", files as f64 / seconds);
}

/// Every number below `files`, in no order: an odd factor that shares no divisor with it.
fn shuffled(n: u64, files: u64) -> u64 {
    (u128::from(n % files) * 982_451_653 % u128::from(files)) as u64
}

fn name(n: u64) -> String {
    let (exposure, detector) = (n / 189, n % 189);
    format!(
        "LSSTCam/20260401/MC_O_20260401_{exposure:06}/MC_O_20260401_{exposure:06}_R22_S{detector:02}.fits"
    )
}

fn uri(name: &str) -> String {
    format!("/sdf/data/rubin/lsstdata/offline/instrument/raw/{name}")
}
