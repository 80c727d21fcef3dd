//! Journals, snapshots and listings of the captured nights, as facts.

#![allow(clippy::unwrap_used)]

use dbb_events::{Micros, journal::decode_journal, listing::decode_listing};
use dbb_operators::{
    facts::{Basis, Change, DidKey, RseName, Said, State, Told, Wanted},
    tell::Teller,
    tell_table::{CATALOGUE_LAG_US, JournalTeller, ListingProblem, ListingTeller},
};
use flate2::read::GzDecoder;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::Path,
};

fn lines(name: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/rucio-events");
    let mut text = String::new();
    GzDecoder::new(File::open(folder.join(name)).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    text.lines().map(str::to_owned).collect()
}

fn teller() -> Teller {
    Teller::new(Wanted {
        changes: true,
        names: true,
        attempts: true,
        said: true,
    })
}

type States = BTreeMap<(DidKey, RseName), State>;

/// The newest state of every replica that is there.
fn newest(changes: &[Change]) -> States {
    let mut newest: BTreeMap<(DidKey, RseName), Change> = BTreeMap::new();
    for change in changes {
        let Some(rse) = change.rse else { continue };
        let known = newest.entry((change.did, rse)).or_insert(*change);
        if change.version() > known.version() {
            *known = *change;
        }
    }
    newest
        .into_iter()
        .map(|(replica, change)| (replica, change.state))
        .filter(|(_, state)| *state != State::Gone)
        .collect()
}

fn listed<S: AsRef<str>>(lines: &[S], listing: &mut ListingTeller, told: &mut Told) -> Vec<ListingProblem> {
    let mut teller = teller();
    lines
        .iter()
        .filter_map(|line| {
            let row = decode_listing(line.as_ref().as_bytes()).unwrap();
            listing.tell(&row, &mut teller, told).err()
        })
        .collect()
}

fn whole<S: AsRef<str>>(lines: &[S], at: Option<Micros>) -> (Told, Result<(), ListingProblem>) {
    let (mut listing, mut told) = (ListingTeller::new(at, CATALOGUE_LAG_US), Told::default());
    assert_eq!(listed(lines, &mut listing, &mut told), []);
    let ended = listing.finish(true, &mut teller(), &mut told);
    (told, ended)
}

#[test]
fn the_journal_of_each_night_ends_in_the_states_of_its_snapshot() {
    for (night, rows, replicas) in [('a', 7223, 2190), ('b', 3446, 923), ('c', 1267, 371)] {
        let (mut journal, mut teller, mut told) = (JournalTeller::default(), teller(), Told::default());
        let mut lines = lines(&format!("night-{night}-replica-journal.ndjson.gz"));
        // Newest wins, whatever comes first.
        lines.reverse();
        for line in &lines {
            let row = decode_journal(line.as_bytes()).unwrap();
            journal.tell(&row, &mut teller, &mut told);
        }
        let report = journal.finish();
        assert_eq!((report.rows, report.disordered), (rows, rows - 1));
        assert!(report.gaps().is_empty() && report.backwards == 0);
        let dids: BTreeSet<DidKey> = told.changes.iter().map(|change| change.did).collect();
        let named: BTreeSet<DidKey> = told
            .names
            .iter()
            .map(|name| {
                assert_eq!(name.did, DidKey::new(name.scope.as_str(), &name.name));
                name.did
            })
            .collect();
        assert_eq!(named, dids);
        assert!(told.changes.iter().all(|change| {
            change.basis == Basis::Journal && change.bytes != Change::NO_BYTES && change.adler32 != 0
        }));

        let snapshot = self::lines(&format!("night-{night}-snapshot-end.ndjson.gz"));
        let (snapshot, ended) = whole(&snapshot, None);
        assert_eq!(ended, Ok(()));
        assert_eq!(snapshot.completes.len(), 1);
        let states = newest(&snapshot.changes);
        assert_eq!(states.len(), replicas);
        assert_eq!(newest(&told.changes), states, "night {night}");
    }
}

#[test]
fn a_snapshot_that_is_cut_short_says_nothing_of_what_it_does_not_name() {
    let lines = lines("night-c-snapshot-mid.ndjson.gz");
    let at = Micros::parse("2026-11-21 19:28:12.923414").unwrap();
    let (told, ended) = whole(&lines, None);
    assert_eq!(
        (ended, told.completes[0].at, told.changes.len()),
        (Ok(()), at, 324)
    );

    let (told, ended) = whole(&lines[..lines.len() - 1], None);
    let problem = ListingProblem::Incomplete {
        at,
        expected: 324,
        found: 323,
    };
    assert_eq!(
        (ended, told.completes.len(), told.changes.len()),
        (Err(problem.clone()), 0, 323)
    );
    assert_eq!(
        problem.to_string(),
        "the snapshot of 2026-11-21T19:28:12.923414Z names 323 replicas and says it has 324: what it names \
         counts, what it does not name is not taken for deleted"
    );

    // All rows are there, but nobody knows what else the file had; or one could not be read.
    for spoiled in [false, true] {
        let mut listing = ListingTeller::new(None, CATALOGUE_LAG_US);
        let mut told = Told::default();
        assert_eq!(listed(&lines, &mut listing, &mut told), []);
        if spoiled {
            listing.spoil();
        }
        assert!(listing.finish(spoiled, &mut teller(), &mut told).is_err());
        assert_eq!(told.completes, []);
    }

    // Two in one file: the end of the first is where the second begins.
    let mut two: Vec<String> = lines[..lines.len() - 1].to_vec();
    two.extend(self::lines("night-c-snapshot-end.ndjson.gz"));
    let (mut listing, mut told) = (ListingTeller::new(None, CATALOGUE_LAG_US), Told::default());
    assert_eq!(listed(&two, &mut listing, &mut told), [problem]);
    assert_eq!(listing.finish(true, &mut teller(), &mut told), Ok(()));
    assert_eq!((told.completes.len(), told.changes.len()), (1, 323 + 371));
}

#[test]
fn what_the_catalogue_tells_late_was_so_a_while_before() {
    let (told, _) = whole(&lines("night-c-snapshot-mid.ndjson.gz"), None);
    let at = told.completes[0].at;
    let (late, others): (Vec<&Change>, Vec<&Change>) = told
        .changes
        .iter()
        .partition(|change| matches!(change.state, State::Copying | State::BeingDeleted));
    assert_eq!((late.len(), others.len()), (18, 306));
    assert!(late.iter().all(|change| change.at.0 == at.0 - CATALOGUE_LAG_US));
    assert!(others.iter().all(|change| change.at == at));
    // They were there, all the same.
    assert!(told.changes.iter().all(|change| change.seen() == Some(at)));
}

#[test]
fn a_listing_of_dids_says_what_is_gone_and_needs_a_time() {
    let lines = lines("night-c-list-replicas.ndjson.gz");
    let (mut listing, mut told) = (ListingTeller::new(None, CATALOGUE_LAG_US), Told::default());
    let problems = listed(&lines, &mut listing, &mut told);
    assert_eq!((problems.len(), told.changes.len()), (138, 0));
    let told_why = problems[0].to_string();
    assert!(
        told_why.contains("listed_at") && told_why.contains("--listing FILE@TIME"),
        "{told_why}"
    );

    let at = Micros::parse("2026-11-21 19:28:29").unwrap();
    let (told, ended) = whole(&lines, Some(at));
    assert_eq!((ended, told.completes.len()), (Ok(()), 0));
    let (all, one): (Vec<&Change>, Vec<&Change>) =
        told.changes.iter().partition(|change| change.rse.is_none());
    assert_eq!((all.len(), one.len()), (138, 327));
    assert!(all.iter().all(|change| {
        (change.state, change.at, change.basis, change.bytes)
            == (State::Gone, at, Basis::Listing, Change::NO_BYTES)
    }));

    // The same with its time in the file, which counts for more than that of the command line.
    let mut timed = vec![r#"{"listed_at": "2026-11-21 19:28:29"}"#.to_owned()];
    timed.extend(lines);
    assert_eq!(whole(&timed, Some(Micros(0))).0, told);
}

#[test]
fn the_contents_of_a_rucio_dataset_are_its_distinct_files() {
    let header = r#"{"contents_of": {"scope": "raw", "name": "g"}, "listed_at": "2026-11-21 19:28:29"}"#;
    let rows = [
        header,
        r#"{"scope": "raw", "name": "a", "bytes": 7}"#,
        r#"{"scope": "raw", "name": "b", "bytes": 8, "rse": "X", "state": "AVAILABLE"}"#,
        r#"{"scope": "raw", "name": "b", "bytes": 8, "rse": "Y", "state": "AVAILABLE"}"#,
        r#"{"scope": "raw", "name": "c", "states": {}}"#,
    ];
    let (told, ended) = whole(&rows, None);
    assert_eq!(ended, Ok(()));
    let [Said::Contents(contents)] = told.said.as_slice() else {
        unreachable!("one statement: {:?}", told.said);
    };
    assert_eq!(contents.dataset.to_string(), "raw:g");
    let mut members =
        [("a", Some(7)), ("b", Some(8)), ("c", None)].map(|(name, bytes)| (DidKey::new("raw", name), bytes));
    members.sort();
    assert_eq!(contents.members, members);
    assert_eq!(told.changes.len(), 3);

    // Cut short, nothing can be said of all of it.
    let (mut listing, mut told) = (ListingTeller::new(None, CATALOGUE_LAG_US), Told::default());
    assert_eq!(listed(&rows, &mut listing, &mut told), []);
    let ended = listing.finish(false, &mut teller(), &mut told);
    assert!(matches!(ended, Err(ListingProblem::IncompleteContents { .. })));
    assert_eq!(told.said, []);

    // A file of no Rucio dataset.
    let mut listing = ListingTeller::new(Some(Micros(1)), CATALOGUE_LAG_US);
    assert_eq!(
        listed(&rows[1..2], &mut listing, &mut told),
        [ListingProblem::NoDataset]
    );
}
