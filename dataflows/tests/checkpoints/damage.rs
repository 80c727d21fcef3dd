//! Damage: found before anything is read, told by file, and the checkpoint before is used.

use crate::{
    rows::{Dice, Fold, KINDS, SUMS, THINGS, changes},
    site::{PIPELINE, Site, Wanted, assert_holds, found, settings, store},
};
use dbb::checkpoint::{CheckpointError, Manifest, Settings, Status, Store, find, list, verify};
use dbb_operators::checkpoint::{Kind, Merge, Restored};
use dbb_test_services::scratch;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
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

#[test]
fn a_manifest_under_the_name_of_another_is_not_taken_for_it() {
    let two = two();
    let [older, newer] = two
        .manifests
        .each_ref()
        .map(|manifest| two.file(&manifest.path()));
    fs::copy(&older, &newer).unwrap();
    two.is_older();
    let later = two.file(&format!("manifests/{:020}-1.json", 30));
    fs::copy(&older, later).unwrap();
    let status = Status::default();
    let found = find(&two.store, PIPELINE, &KINDS, &status, Arc::new(|e| panic!("{e}")));
    assert_eq!(found.unwrap().unwrap().epoch(), 10);
    assert_eq!(status.figures().damaged, 2);
}

/// Of two on one folder neither touches what the other has written.
#[test]
fn no_run_writes_over_the_shards_of_another() {
    let two = two();
    let before: Vec<_> = two.manifests[1]
        .shards
        .iter()
        .map(|shard| two.file(&shard.path))
        .collect();
    let bytes: Vec<_> = before.iter().map(|path| fs::read(path).unwrap()).collect();
    let site = Site::start(&Wanted::of(&two.store, 1));
    site.checkpoint(20, vec![changes(&mut Dice(8), 0, 1, 310)])
        .unwrap_err();
    site.end();
    assert_eq!(
        before
            .iter()
            .map(|path| fs::read(path).unwrap())
            .collect::<Vec<_>>(),
        bytes
    );
    assert_holds(&found(&two.store).unwrap().unwrap(), &two.newer, 1);
}

#[test]
fn a_folder_that_was_removed_is_written_again_whole_with_the_next_checkpoint() {
    let folder = scratch("checkpoint").unwrap();
    let store = store(folder.path());
    let site = Site::start(&Wanted::of(&store, 1));
    let (mut dice, mut fold) = (Dice(5), Fold::default());
    for epoch in [10, 20, 30, 40] {
        let changed = changes(&mut dice, 0, 1, 200);
        changed.iter().for_each(|handed| fold.apply(handed));
        site.checkpoint(epoch, vec![changed]).unwrap();
        if epoch == 20 {
            // A file may come while it is removed.
            while folder.path().exists() {
                let _ = fs::remove_dir_all(folder.path());
            }
        }
        if epoch >= 20 {
            assert_eq!(site.status.trouble(), None);
        }
    }
    site.end();
    let found = found(&store).unwrap().unwrap();
    assert_eq!(found.epoch(), 40);
    assert_holds(&found, &fold, 2);
}

#[test]
fn a_checkpoint_is_not_written_over_a_damaged_file_and_it_is_told() {
    let folder = scratch("checkpoint").unwrap();
    let store = store(folder.path());
    let site = Site::start(&Wanted {
        give_up: Duration::from_secs(1),
        ..Wanted::of(&store, 1)
    });
    let mut dice = Dice(5);
    let first = site.checkpoint(10, vec![changes(&mut dice, 0, 1, 200)]).unwrap();
    // Its size is told by a list; a bit by reading it, which is done before an older one goes.
    let file = folder.path().join(&first.shards[0].path);
    fs::write(&file, &fs::read(&file).unwrap()[1..]).unwrap();
    // What is held open is damaged too.
    let error = site
        .checkpoint(20, vec![changes(&mut dice, 0, 1, 200)])
        .unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains(&first.shards[0].path) && told.contains("views are made anew"),
        "{told}"
    );
    assert!(site.status.trouble().is_some());
    site.end();
    assert_eq!(list(&store).unwrap().len(), 1);
}

/// Waits until `done` is, with a checkpoint of changes after each look.
fn until(
    site: &Site,
    epoch: &mut u64,
    dice: &mut Dice,
    fold: &mut Fold,
    done: &dyn Fn(&Manifest) -> bool,
) -> Manifest {
    for _ in 0..400 {
        let changed = changes(dice, 0, 1, 20);
        changed.iter().for_each(|handed| fold.apply(handed));
        let manifest = site.checkpoint(*epoch, vec![changed]).unwrap();
        *epoch += 10;
        if done(&manifest) {
            return manifest;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it does not come to that");
}

#[test]
fn one_checkpoint_that_is_kept_shares_nothing_with_the_newest() {
    let folder = scratch("checkpoint").unwrap();
    let store = store(folder.path());
    let site = Site::start(&Wanted {
        apart_every: Some(Duration::from_secs(3600)),
        ..Wanted::of(&store, 1)
    });
    let (mut dice, mut fold, mut epoch) = (Dice(5), Fold::default(), 10);
    let paths = |manifest: &Manifest| -> BTreeSet<String> {
        manifest.shards.iter().map(|shard| shard.path.clone()).collect()
    };
    let apart = |newest: &Manifest| {
        let named = paths(newest);
        let mut kept = list(&store)
            .unwrap()
            .into_iter()
            .filter_map(|listed| listed.manifest.ok());
        kept.any(|kept| paths(&kept).is_disjoint(&named))
    };
    // For as long as checkpoints are written, and many more of them than are kept.
    until(&site, &mut epoch, &mut dice, &mut fold, &apart);
    for _ in 0..10 {
        until(&site, &mut epoch, &mut dice, &mut fold, &|_| true);
    }
    let newest = until(&site, &mut epoch, &mut dice, &mut fold, &apart);
    assert!(apart(&newest));
    site.end();
    assert_holds(&found(&store).unwrap().unwrap(), &fold, 2);
    // With all that the newest names gone, there is one to go on from.
    for path in paths(&newest) {
        fs::remove_file(folder.path().join(path)).unwrap();
    }
    assert!(found(&store).unwrap().unwrap().epoch() < newest.epoch);
}
