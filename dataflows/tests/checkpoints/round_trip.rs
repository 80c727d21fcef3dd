//! What is read back is what was written, however it was merged, pruned and shared out meanwhile.

use crate::{
    rows::{Dice, Fold, Handed, SEEN, SUMS, THINGS, changes},
    site::{Site, Wanted, assert_holds, found, rows, store},
};
use dbb::checkpoint::{Role, list};
use dbb_events::Micros;
use dbb_operators::{
    checkpoint::{Restored, spread},
    publish::Lost,
};
use dbb_test_services::{scratch, wait_until};
use std::{collections::BTreeSet, fs, time::Duration};

#[test]
fn where_nothing_was_written_nothing_is_found() {
    let folder = scratch("checkpoint").unwrap();
    assert!(found(&store(folder.path())).unwrap().is_none());
}

#[test]
fn rows_come_back_as_the_fold_of_all_changes_whatever_was_merged_and_however_many_read() {
    for seed in 0..4 {
        println!("seed {seed}");
        let mut dice = Dice(seed);
        let folder = scratch("checkpoint").unwrap();
        let store = store(folder.path());
        let mut fold = Fold::default();
        let (mut generation, mut epoch) = (1, 0);
        // Some runs, each on another number of processes, each from where the one before was.
        for _ in 0..3 {
            let processes = dice.roll(3) as usize + 1;
            let restored = found(&store).unwrap();
            let site = Site::start(&Wanted {
                processes,
                restored: restored.as_ref(),
                ..Wanted::of(&store, generation)
            });
            for _ in 0..dice.roll(25) + 1 {
                epoch += 3000;
                let most = [5, 300, 3000][dice.roll(3) as usize];
                let parts: Vec<Vec<Handed>> = (0..processes as u64)
                    .map(|process| changes(&mut dice, process, processes as u64, most))
                    .collect();
                parts.iter().flatten().for_each(|handed| fold.apply(handed));
                let manifest = site.checkpoint(epoch, parts).unwrap();
                assert_eq!((manifest.epoch, manifest.generation), (epoch, generation));
            }
            site.end();
            let found = found(&store).unwrap().unwrap();
            assert_eq!(found.epoch(), epoch);
            for of in 1..=7 {
                assert_holds(&found, &fold, of);
            }
            generation += 1;
        }
    }
}

/// Enough rows for several row groups: a share is a part of the file, and it is the right one.
#[test]
fn a_share_of_a_large_shard_is_exactly_its_range_of_keys() {
    let folder = scratch("checkpoint").unwrap();
    let store = store(folder.path());
    let site = Site::start(&Wanted::of(&store, 1));
    let key = |n: u64| spread(&n.to_be_bytes());
    let all = (0..200_000).map(|n: u64| (key(n), Some(n.to_le_bytes().to_vec())));
    let handed = Handed {
        kind: &THINGS,
        rows: all.collect(),
        remember: None,
    };
    let mut fold = Fold::default();
    fold.apply(&handed);
    let manifest = site.checkpoint(3000, vec![vec![handed]]).unwrap();
    assert_eq!(manifest.rows(), 200_000);
    let found = found(&store).unwrap().unwrap();
    assert_holds(&found, &fold, 5);
    for (share, key) in found.rows(&THINGS, 2, 4).map(|(key, _)| (2, key)) {
        let head = u64::from_be_bytes(key[..8].try_into().unwrap());
        assert_eq!(head >> 62, share);
    }
    site.end();
}

#[test]
fn deltas_become_a_base_and_removed_rows_are_gone_from_it() {
    let folder = scratch("checkpoint").unwrap();
    let store = store(folder.path());
    let site = Site::start(&Wanted::of(&store, 1));
    let thing =
        |n: u64, value: Option<&str>| (spread(&n.to_be_bytes()), value.map(|v| v.as_bytes().to_vec()));
    let things = |rows| Handed {
        kind: &THINGS,
        rows,
        remember: None,
    };
    site.checkpoint(
        10,
        vec![vec![things(vec![thing(1, Some("a")), thing(2, Some("b"))])]],
    )
    .unwrap();
    site.checkpoint(20, vec![vec![things(vec![thing(1, None), thing(3, Some("c"))])]])
        .unwrap();
    let mut epoch = 20;
    let mut newest = None;
    wait_until("there is a base", Duration::from_secs(60), || {
        epoch += 10;
        let manifest = site.checkpoint(epoch, vec![vec![]]).unwrap();
        let merged = manifest.shards.iter().all(|shard| shard.role == Role::Base);
        newest = Some(manifest);
        Ok(merged)
    })
    .unwrap();
    let newest = newest.unwrap();
    assert_eq!((newest.shards.len(), newest.rows()), (1, 2));
    assert_eq!((newest.shards[0].from, newest.shards[0].to), (1, 20));
    let found = found(&store).unwrap().unwrap();
    let values: Vec<_> = rows(&found, &THINGS, 3).into_values().collect();
    assert!(values.contains(&b"b".to_vec()) && values.contains(&b"c".to_vec()) && values.len() == 2);
    site.end();
}

/// A removal must outlive the merging of deltas: the row it removes is in the base.
#[test]
fn many_small_deltas_become_one_that_still_removes() {
    let folder = scratch("checkpoint").unwrap();
    let store = store(folder.path());
    let site = Site::start(&Wanted::of(&store, 1));
    let key = |n: u64| spread(&n.to_be_bytes());
    let thing = |n: u64, value: Option<u8>| Handed {
        kind: &THINGS,
        rows: vec![(key(n), value.map(|v| vec![v]))],
        remember: None,
    };
    let many = Handed {
        kind: &THINGS,
        rows: (0..1000).map(|n| (key(n), Some(vec![0]))).collect(),
        remember: None,
    };
    let mut fold = Fold::default();
    fold.apply(&many);
    site.checkpoint(10, vec![vec![many]]).unwrap();
    let first = thing(0, None);
    fold.apply(&first);
    site.checkpoint(20, vec![vec![first]]).unwrap();
    // Two deltas, the second of them small: they become the base with the next ones, or the small ones one delta.
    let mut epoch = 20;
    let mut count = 0;
    wait_until("deltas were merged into a delta", Duration::from_secs(60), || {
        epoch += 10;
        count += 1;
        let next = thing(count % 900 + 1, (count % 2 == 0).then_some(7));
        fold.apply(&next);
        let manifest = site.checkpoint(epoch, vec![vec![next]]).unwrap();
        Ok(manifest
            .shards
            .iter()
            .any(|shard| shard.role == Role::Delta && shard.path.contains("merged")))
    })
    .unwrap();
    assert_holds(&found(&store).unwrap().unwrap(), &fold, 2);
    site.end();
}

#[test]
fn what_is_remembered_for_a_time_is_kept_for_that_time_and_not_much_longer() {
    let folder = scratch("checkpoint").unwrap();
    let store = store(folder.path());
    let site = Site::start(&Wanted::of(&store, 1));
    let remember = 6400;
    let mut n = 0_u64;
    wait_until("much was remembered and merged", Duration::from_secs(60), || {
        n += 1;
        let seen = Handed {
            kind: &SEEN,
            rows: vec![(spread(&n.to_be_bytes()), Some(Vec::new()))],
            remember: Some(remember),
        };
        let shards = site.checkpoint(n * 100, vec![vec![seen]]).unwrap().shards.len();
        Ok(n > 200 && shards < 45)
    })
    .unwrap();
    let found = found(&store).unwrap().unwrap();
    let there = rows(&found, &SEEN, 2);
    for n in n - remember / 100..=n {
        assert!(there.contains_key(&spread(&n.to_be_bytes())), "{n}");
    }
    // Merged shards are forgotten whole: up to a sixteenth of the time later.
    assert!(
        there.len() as u64 <= 2 + remember / 100 * 17 / 16,
        "{} rows",
        there.len()
    );
    site.end();
}

#[test]
fn only_the_newest_manifests_and_what_they_name_are_kept() {
    let folder = scratch("checkpoint").unwrap();
    let store = store(folder.path());
    let mut dice = Dice(7);
    let site = Site::start(&Wanted::of(&store, 1));
    // Left by a run that was killed before its manifest was written, and by nobody.
    fs::write(
        folder
            .path()
            .join("shards/00000000000000000005-0-0-things-0.parquet"),
        "x",
    )
    .unwrap();
    fs::write(folder.path().join("shards/notes.txt"), "x").unwrap();
    for n in 1..=40 {
        site.checkpoint(n * 10, vec![changes(&mut dice, 0, 1, 50)])
            .unwrap();
    }
    // Pruning follows the answer.
    site.end();
    let kept = list(&store).unwrap();
    let epochs: Vec<_> = kept.iter().map(|m| m.epoch).collect();
    assert_eq!(epochs[..3], [400, 390, 380]);
    // When all shards of the newest were merged at a good moment, one that shares nothing with it is kept besides.
    let paths = |n: usize| -> BTreeSet<&str> {
        let manifest = kept[n].manifest.as_ref().unwrap();
        manifest.shards.iter().map(|shard| &*shard.path).collect()
    };
    assert!(epochs.len() <= 4, "{epochs:?}");
    assert!(
        (3..epochs.len()).all(|n| paths(n).is_disjoint(&paths(0))),
        "{epochs:?}"
    );
    let mut named: Vec<String> = kept
        .iter()
        .flat_map(|m| m.manifest.as_ref().unwrap().shards.iter().map(|s| s.path.clone()))
        .chain(["shards/notes.txt".into()])
        .collect();
    named.sort_unstable();
    named.dedup();
    let mut there: Vec<String> = fs::read_dir(folder.path().join("shards"))
        .unwrap()
        .map(|entry| format!("shards/{}", entry.unwrap().file_name().into_string().unwrap()))
        // Made in background, and not yet named when the run ended.
        .filter(|name| named.contains(name) || !name.contains("merged"))
        .collect();
    there.sort_unstable();
    assert_eq!(there, named);
}

#[test]
fn offsets_and_gaps_are_carried_on_from_manifest_to_manifest() {
    let folder = scratch("checkpoint").unwrap();
    let store = store(folder.path());
    let gap = |from| Lost {
        stream: "topic".into(),
        partition: 0,
        from,
        to: from + 5,
        records: Some(5),
        since: Micros(7),
    };
    let site = Site::start(&Wanted {
        processes: 2,
        ..Wanted::of(&store, 1)
    });
    site.collect(10, vec![vec![], vec![]]);
    site.commit(vec![gap(1)]).unwrap();
    site.end();
    let restored = found(&store).unwrap().unwrap();
    let site = Site::start(&Wanted {
        restored: Some(&restored),
        ..Wanted::of(&store, 2)
    });
    site.collect(20, vec![vec![]]);
    site.commit(vec![gap(1), gap(100)]).unwrap();
    site.end();
    let newest = found(&store).unwrap().unwrap();
    assert_eq!(newest.gaps(), [gap(1), gap(100)]);
    let offsets: Vec<_> = newest
        .offsets()
        .into_iter()
        .map(|((_, p), next)| (p, next))
        .collect();
    // Partition 1 was read by a process that is not there any more.
    assert_eq!(offsets, [(0, 140), (1, 70)]);
}

#[test]
fn rows_of_one_key_that_were_handed_out_twice_are_one() {
    let folder = scratch("checkpoint").unwrap();
    let store = store(folder.path());
    let site = Site::start(&Wanted::of(&store, 1));
    let sum = |by: i64| Handed {
        kind: &SUMS,
        rows: vec![(b"key".to_vec(), Some(by.to_le_bytes().to_vec()))],
        remember: None,
    };
    site.checkpoint(10, vec![vec![sum(2), sum(3)]]).unwrap();
    let found = found(&store).unwrap().unwrap();
    assert_eq!(
        rows(&found, &SUMS, 1).into_values().collect::<Vec<_>>(),
        [5_i64.to_le_bytes()]
    );
    site.end();
}
