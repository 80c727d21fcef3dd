//! Listings in a folder beside events: what is in a Rucio dataset is known from the moment its listing is there.

use crate::{DBB, views::is_ready};
use anyhow::Result;
use dbb_test_services::free_port;
use dbb_tests::{
    Site,
    fold::{ask, connect},
};
use std::{collections::BTreeSet, fs};

const EVENT: &str = r#"{"event_type": "transfer-done", "payload": {"request-id": "r1", "scope": "raw", "name": "one", "dataset": "d", "datasetScope": "raw", "dst-rse": "HERE", "bytes": 7}, "created_at": "2026-11-21 19:27:29.233846"}"#;
const SNAPSHOT: &str = r#"{"snapshot_at": "2026-11-21 19:30:00", "replicas": 2}
{"scope": "raw", "name": "one", "rse": "HERE", "state": "AVAILABLE", "bytes": 7}
{"scope": "raw", "name": "registered", "rse": "HERE", "state": "AVAILABLE", "bytes": 8}
"#;
const CONTENTS: &str = r#"{"contents_of": {"scope": "raw", "name": "d"}, "listed_at": "2026-11-21 19:31:00"}
{"scope": "raw", "name": "one", "bytes": 7}
{"scope": "raw", "name": "two", "bytes": 9}
"#;

#[test]
fn what_is_put_into_the_folder_is_in_the_views() -> Result<()> {
    let mut site = Site::unmade(DBB, &[])?;
    site.unset_all();
    let folder = tempfile::tempdir()?;
    let (log, listings) = (
        folder.path().join("events.ndjson"),
        folder.path().join("listings"),
    );
    fs::write(&log, format!("{EVENT}\n"))?;
    fs::create_dir(&listings)?;
    fs::write(listings.join("snapshot.ndjson"), SNAPSHOT)?;
    let (sql, http) = (
        format!("127.0.0.1:{}", free_port()?),
        format!("127.0.0.1:{}", free_port()?),
    );
    fs::write(
        site.config(),
        format!(
            "source:\n  log: {{paths: [\"{}\"], follow: true}}\n  listings: {{folder: \"{}\", look_every_seconds: 1}}\n\
             ledger: {{url: \"{}\"}}\n\
             views: {{keep: [replicas, dataset_progress]}}\n\
             sql: {{listen: \"{sql}\"}}\n\
             http: {{listen: \"{http}\"}}\n",
            log.display(),
            listings.display(),
            site.ledger_url(),
        ),
    )?;
    let mut run = site.start(&["--workers", "2"])?;
    run.until("views have caught up", || is_ready(&http))?;
    let mut client = connect(&sql)?;
    // Ready means that the listing is in: nothing has to be waited for.
    let replicas = ask(&mut client, "select name, state, basis from replicas")?;
    assert_eq!(
        replicas,
        BTreeSet::from([
            ["one", "AVAILABLE", "listing"].map(String::from).to_vec(),
            ["registered", "AVAILABLE", "listing"].map(String::from).to_vec(),
        ])
    );
    let progress =
        "select done, coalesce(members, -1), coalesce(missing, -1), complete from dataset_progress";
    let row = |row: [&str; 4]| BTreeSet::from([row.map(String::from).to_vec()]);
    assert_eq!(ask(&mut client, progress)?, row(["1", "-1", "-1", "unknown"]));
    fs::write(listings.join(".contents.ndjson"), CONTENTS)?;
    fs::rename(
        listings.join(".contents.ndjson"),
        listings.join("contents.ndjson"),
    )?;
    run.until("the contents are known", || {
        Ok(ask(&mut client, progress)? == row(["1", "2", "1", "incomplete"]))
    })?;
    run.terminate()?.with(0)?;
    Ok(())
}
