//! Full disks, folders that cannot be written, and processes that are killed.
//!
//! Each needs a process of its own: this program once more, told by a variable what to be.

use crate::{
    rows::{Dice, Fold, Handed, THINGS, changes},
    site::{Site, Wanted, assert_holds, found, settings, store},
};
use dbb::checkpoint::{CheckpointError, Store};
use dbb_operators::checkpoint::{Restored, spread};
use dbb_test_services::{scratch, wait_until};
use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

const ROLE: &str = "CHECKPOINT_TEST_ROLE";
const FOLDER: &str = "CHECKPOINT_TEST_FOLDER";

/// This program, in another role, with `before` in front of it.
pub(crate) fn other(before: &[&str], role: &str, folder: &Path) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut words = before.iter().map(PathBuf::from).chain([program]);
    let mut command = Command::new(words.next().unwrap());
    command
        .args(words)
        .args(["--exact", "faults::in_another_process", "--nocapture"])
        .env(ROLE, role)
        .env(FOLDER, folder);
    command
}

/// Not a test: what the processes that tests start do.
#[test]
fn in_another_process() {
    let (Ok(role), Ok(folder)) = (std::env::var(ROLE), std::env::var(FOLDER)) else {
        return;
    };
    let folder = Path::new(&folder);
    match role.as_str() {
        "write for ever" => write_for_ever(folder),
        "fill" => fill(folder),
        "s3" => crate::s3::work(),
        "open" => match Store::open(&settings(folder)) {
            Ok(_) => println!("opened"),
            Err(error) => println!("{} {error}", error.is_transient()),
        },
        other => panic!("{other}"),
    }
}

pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The changes at `epoch`, the same in every process.
fn changes_at(epoch: u64) -> Vec<Handed> {
    changes(&mut Dice(epoch), 0, 1, 400)
}

fn write_for_ever(folder: &Path) {
    let store = store(folder);
    let restored = found(&store).unwrap();
    let generation = restored.as_ref().map_or(0, |found| found.manifest().generation) + 1;
    let site = Site::start(&Wanted {
        restored: restored.as_ref(),
        ..Wanted::of(&store, generation)
    });
    let mut epoch = restored.map_or(0, |found| found.epoch());
    loop {
        epoch += 1;
        site.checkpoint(epoch, vec![changes_at(epoch)]).unwrap();
    }
}

/// Ends with its handle.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_writer_that_is_killed_at_any_moment_leaves_a_checkpoint_that_is_right() {
    let folder = scratch("checkpoint").unwrap();
    let store = store(folder.path());
    let mut dice = Dice(u64::from(std::process::id()));
    println!("seed {}", dice.0);
    let (mut fold, mut folded) = (Fold::default(), 0);
    for round in 0..8 {
        let child = Running(
            other(&[], "write for ever", folder.path())
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        );
        wait_until("it has written something", Duration::from_secs(60), || {
            Ok(found(&store).is_ok_and(|found| found.is_some_and(|found| found.epoch() > folded)))
        })
        .unwrap();
        thread::sleep(Duration::from_millis(dice.roll(60)));
        drop(child);
        let found = found(&store).unwrap().unwrap();
        while folded < found.epoch() {
            folded += 1;
            changes_at(folded).iter().for_each(|handed| fold.apply(handed));
        }
        println!("round {round}: epoch {folded}");
        assert_holds(&found, &fold, 2);
    }
}

/// The file size limit stands for a disk that fills in the midst of a file: the same error at the same place.
#[test]
fn a_disk_that_fills_leaves_the_last_checkpoint_as_it_was_and_is_told() {
    let folder = scratch("checkpoint").unwrap();
    let limited = ["sh", "-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh"];
    let output = other(&limited, "fill", folder.path()).output().unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("fatal: could not write `shards/00000000000000000020-1-")
            && said.contains("-0-things-0.parquet` in the checkpoint store")
            && said.contains("the disk is full, make room on it"),
        "{said}"
    );
    assert!(
        said.contains("failing: could not write") && said.contains("failures: true"),
        "{said}"
    );
    let store = store(folder.path());
    assert_eq!(found(&store).unwrap().unwrap().epoch(), 10);
    let left: Vec<_> = fs::read_dir(folder.path().join("shards")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

fn large(rows: u64) -> Handed {
    let mut dice = Dice(1);
    let value = |dice: &mut Dice| (0..32).map(|_| dice.roll(256) as u8).collect();
    Handed {
        kind: &THINGS,
        rows: (0..rows)
            .map(|n| (spread(&n.to_be_bytes()), Some(value(&mut dice))))
            .collect(),
        remember: None,
    }
}

fn fill(folder: &Path) {
    let store = store(folder);
    let site = Site::start(&Wanted {
        give_up: Duration::from_millis(500),
        ..Wanted::of(&store, 1)
    });
    site.checkpoint(10, vec![vec![large(10)]]).unwrap();
    let error = site.checkpoint(20, vec![vec![large(20_000)]]).unwrap_err();
    println!("fatal: {error}");
    let figures = site.status.figures();
    println!("failing: {}", site.status.trouble().unwrap());
    println!("failures: {}", figures.failures > 1);
    site.end();
}

#[test]
fn when_there_is_room_again_the_checkpoint_that_waited_is_written() {
    let folder = scratch("checkpoint").unwrap();
    let store = store(folder.path());
    let site = Site::start(&Wanted::of(&store, 1));
    site.checkpoint(10, vec![vec![large(10)]]).unwrap();
    // Nothing can be written where a file stands in place of the folder.
    let (shards, away) = (folder.path().join("shards"), folder.path().join("away"));
    fs::rename(&shards, &away).unwrap();
    fs::write(&shards, "").unwrap();
    site.collect(20, vec![vec![large(20)]]);
    wait_until("the trouble is told", Duration::from_secs(60), || {
        Ok(site.status.trouble().is_some())
    })
    .unwrap();
    fs::remove_file(&shards).unwrap();
    fs::rename(&away, &shards).unwrap();
    site.commit(Vec::new()).unwrap();
    assert_eq!(site.status.trouble(), None);
    site.end();
    assert_eq!(found(&store).unwrap().unwrap().epoch(), 20);
}

#[test]
fn who_leaves_while_the_store_is_down_is_not_held_up() {
    let folder = scratch("checkpoint").unwrap();
    let store = store(folder.path());
    let site = Site::start(&Wanted {
        give_up: Duration::from_secs(100_000),
        ..Wanted::of(&store, 1)
    });
    fs::write(folder.path().join("manifests"), "").unwrap();
    site.collect(20, vec![vec![]]);
    site.status.leave();
    let error = site.commit(Vec::new()).unwrap_err();
    assert!(matches!(error, CheckpointError::Store { .. }), "{error}");
    site.end();
}

/// As somebody else than root, who may write everywhere.
#[test]
fn a_folder_that_may_not_be_written_is_an_error_at_the_start_that_waiting_does_not_mend() {
    let folder = tempfile::Builder::new()
        .prefix("dbb-checkpoint-")
        .tempdir()
        .unwrap();
    let own = |mode| fs::Permissions::from_mode(mode);
    fs::set_permissions(folder.path(), own(0o555)).unwrap();
    let mut command = other(&[], "open", &folder.path().join("checkpoints"));
    if is_root() {
        command.uid(65_534).gid(65_534);
    }
    let output = command.current_dir("/").output().unwrap();
    fs::set_permissions(folder.path(), own(0o755)).unwrap();
    let said = said(&output);
    assert!(
        said.contains("false could not make")
            && said.contains("let this user write there, or set checkpoint.url"),
        "{said}"
    );
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0)
}
