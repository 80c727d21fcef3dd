//! Damage: found before anything is read, told by file, and the checkpoint before is used.

use crate::{
    rows::{Dice, Fold, KINDS, SUMS, THINGS, changes},
    site::{PIPELINE, Site, Wanted, assert_holds, found, settings, store},
};
use dbb::checkpoint::{CheckpointError, Manifest, Settings, Status, Store, find, list, verify};
use dbb_operators::checkpoint::{Kind, Merge, Restored};
use dbb_test_services::scratch;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

/// Two checkpoints, and what each of them is.
struct Two {
    folder: TempDir,
    store: Store,
    older: Fold,
    newer: Fold,
    manifests: [Manifest; 2],
}

fn two() -> Two {
    let folder = scratch("checkpoint").unwrap();
    let store = store(folder.path());
    let site = Site::start(&Wanted::of(&store, 1));
    let mut dice = Dice(3);
    let mut fold = Fold::default();
    let mut folds = Vec::new();
    let mut manifests = Vec::new();
    for epoch in [10, 20] {
        let changed = changes(&mut dice, 0, 1, 310);
        changed.iter().for_each(|handed| fold.apply(handed));
        folds.push(fold.clone());
        manifests.push(site.checkpoint(epoch, vec![changed]).unwrap());
    }
    site.end();
    Two {
        folder,
        store,
        newer: folds.pop().unwrap(),
        older: folds.pop().unwrap(),
        manifests: manifests.try_into().unwrap(),
    }
}

impl Two {
    fn file(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The shard that only the newer checkpoint names.
    fn newest_shard(&self) -> PathBuf {
        self.file(&self.manifests[1].shards.last().unwrap().path)
    }

    fn is_older(&self) {
        let status = Status::default();
        let found = find(
            &self.store,
            PIPELINE,
            &KINDS,
            &status,
            Arc::new(|e| panic!("{e}")),
        );
        let found = found.unwrap().unwrap();
        assert_eq!(found.epoch(), 10);
        assert_holds(&found, &self.older, 3);
        assert_eq!(status.figures().damaged, 1);
    }
}

fn flip(file: &Path, bit: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[bit / 8] ^= 1 << (bit % 8);
    fs::write(file, bytes).unwrap();
}

#[test]
fn without_damage_the_newest_is_used() {
    let two = two();
    let found = found(&two.store).unwrap().unwrap();
    assert_eq!(found.epoch(), 20);
    assert_holds(&found, &two.newer, 3);
}

#[test]
fn any_flipped_bit_of_a_shard_or_manifest_leads_to_the_checkpoint_before() {
    let two = two();
    for file in [two.newest_shard(), two.file(&two.manifests[1].path())] {
        let bits = fs::metadata(&file).unwrap().len() as usize * 8;
        let mut dice = Dice(11);
        for _ in 0..60 {
            let bit = dice.roll(bits as u64) as usize;
            flip(&file, bit);
            println!("{} bit {bit}", file.display());
            two.is_older();
            flip(&file, bit);
        }
    }
    assert_eq!(found(&two.store).unwrap().unwrap().epoch(), 20);
}

#[test]
fn a_file_cut_short_or_missing_leads_to_the_checkpoint_before() {
    for file in [Two::newest_shard, |two: &Two| two.file(&two.manifests[1].path())] {
        let two = two();
        let file = file(&two);
        let whole = fs::read(&file).unwrap();
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&file, &whole[..length]).unwrap();
            two.is_older();
        }
    }
    let two = two();
    fs::remove_file(two.newest_shard()).unwrap();
    two.is_older();
}

#[test]
fn when_all_are_damaged_they_are_all_named_and_nothing_is_begun_from_nothing() {
    let two = two();
    let shard = &two.manifests[0].shards[0].path;
    fs::remove_file(two.file(shard)).unwrap();
    flip(&two.newest_shard(), 77);
    let error = found(&two.store).err().unwrap();
    let told = error.to_string();
    assert!(matches!(error, CheckpointError::NoneUsable { .. }), "{told}");
    for part in [
        two.manifests[0].path().as_str(),
        two.manifests[1].path().as_str(),
        &format!("`{shard}` is missing"),
        "does not have its checksum",
        "set checkpoint.url to an empty folder",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn after_a_damaged_end_work_goes_on_from_before_it_and_is_found_again() {
    let two = two();
    flip(&two.newest_shard(), 77);
    let restored = found(&two.store).unwrap().unwrap();
    let site = Site::start(&Wanted {
        restored: Some(&restored),
        ..Wanted::of(&two.store, 2)
    });
    let mut fold = two.older.clone();
    let changed = changes(&mut Dice(5), 0, 1, 20);
    changed.iter().for_each(|handed| fold.apply(handed));
    // The same epoch once more, with other rows.
    site.checkpoint(20, vec![changed]).unwrap();
    let again = found(&two.store).unwrap().unwrap();
    assert_eq!((again.epoch(), again.manifest().generation), (20, 2));
    assert_holds(&again, &fold, 2);
    site.end();
}

/// Seals the newest manifest after `change`, as a program that means it would.
fn rewrite(two: &Two, change: impl FnOnce(&mut Manifest)) {
    let mut manifest = two.manifests[1].clone();
    change(&mut manifest);
    let line = serde_json::to_string(&manifest).unwrap();
    let checksum = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(line.as_bytes()));
    let seal = serde_json::json!({"hash": "xxh3-128", "checksum": checksum});
    fs::write(two.file(&two.manifests[1].path()), format!("{line}\n{seal}\n")).unwrap();
}

/// Going back would let an older program write over what a newer one has done.
#[test]
fn what_a_newer_version_or_another_pipeline_wrote_is_refused_and_not_passed_over() {
    let two = two();
    rewrite(&two, |manifest| manifest.format = 2);
    assert!(matches!(
        found(&two.store),
        Err(CheckpointError::Newer { format: 2, .. })
    ));
    rewrite(&two, |manifest| manifest.pipeline = "other".into());
    let told = found(&two.store).err().unwrap().to_string();
    assert!(
        told.contains("another pipeline (other), not of this one (test)"),
        "{told}"
    );
    rewrite(&two, |manifest| {
        manifest.kinds.insert("sums".into(), 9);
    });
    let told = found(&two.store).err().unwrap().to_string();
    assert!(
        told.contains("holds `sums` of version 9, and this dbb reads version 2"),
        "{told}"
    );
    rewrite(&two, |manifest| {
        manifest.kinds.insert("dreams".into(), 1);
    });
    let told = found(&two.store).err().unwrap().to_string();
    assert!(
        told.contains("holds `dreams`, which this dbb does not know"),
        "{told}"
    );
}

#[test]
fn an_older_generation_is_fenced_off() {
    let two = two();
    let site = Site::start(&Wanted::of(&two.store, 0));
    let error = site.checkpoint(30, vec![vec![]]).unwrap_err();
    assert!(
        matches!(
            error,
            CheckpointError::Fenced {
                ours: 0,
                newest: 1,
                ..
            }
        ),
        "{error}"
    );
    site.end();
    assert_eq!(found(&two.store).unwrap().unwrap().epoch(), 20);
}

#[test]
fn of_two_who_commit_one_epoch_one_is_told() {
    let two = two();
    let site = Site::start(&Wanted::of(&two.store, 1));
    let error = site.checkpoint(20, vec![vec![]]).unwrap_err();
    assert!(
        matches!(error, CheckpointError::Taken { epoch: 20, .. }),
        "{error}"
    );
    site.end();
    assert_holds(&found(&two.store).unwrap().unwrap(), &two.newer, 1);
}

#[test]
fn verify_names_each_damaged_shard() {
    let two = two();
    flip(&two.newest_shard(), 9);
    let problems: Vec<usize> = list(&two.store)
        .unwrap()
        .iter()
        .map(|listed| verify(&two.store, listed.manifest.as_ref().unwrap()).len())
        .collect();
    assert_eq!(problems, [1, 0]);
}

/// The checksum was right when it was looked at, and the rows are not what they should be: nobody may go on.
#[test]
fn an_error_while_reading_is_told_and_ends_the_rows() {
    static OTHERWISE: Kind = Kind {
        name: "sums",
        version: 2,
        merge: Merge::Sum(|_, _| {
            Err(dbb_operators::checkpoint::Damaged {
                kind: "sums",
                reason: "not a number".into(),
            })
        }),
    };
    let two = two();
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let teller = Arc::clone(&told);
    let status = Status::default();
    let found = find(
        &two.store,
        PIPELINE,
        &[&THINGS, &OTHERWISE],
        &status,
        Arc::new(move |error| teller.lock().unwrap().push(error.to_string())),
    );
    let found = found.unwrap().unwrap();
    let read = found.rows(&OTHERWISE, 0, 1).count();
    assert!(read < two.newer.rows(&SUMS).len());
    assert_eq!(
        *told.lock().unwrap(),
        ["a row of `sums` cannot be read: not a number"]
    );
}

#[test]
fn a_url_that_names_no_store_is_told() {
    for (url, told) in [
        ("ftp://a/b", "is neither a folder nor `s3://bucket/prefix`"),
        ("file://", "names no folder"),
        ("s3://", "names no bucket"),
    ] {
        let settings = Settings {
            url: Some(url.into()),
            ..settings(Path::new("unused"))
        };
        let error = Store::open(&settings).unwrap_err();
        assert_eq!(error.to_string(), format!("checkpoint.url `{url}` {told}"));
    }
}
