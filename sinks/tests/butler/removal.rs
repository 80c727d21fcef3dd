//! Files that are gone: what was registered from them is forgotten, and no file is ever deleted.

use crate::harness::*;
use anyhow::{Result, ensure};
use dbb_events::{Action, EventId, Kind, Micros, Reason, Request, Rse, Settled};
use dbb_sinks::{
    Sink,
    butler::{ButlerSettings, ButlerSink, NoHistory, Removal, TransferMode},
};
use serde_json::{Value, json};
use std::path::Path;
use uuid::Uuid;

fn removing(site: &Site, removal: Removal) -> Result<ButlerSettings> {
    let mut settings = settings(&site.root)?;
    settings.removal = removal;
    Ok(settings)
}

/// A sink with no memory of what other sinks did.
fn sink(site: &Site, removal: Removal) -> Result<ButlerSink> {
    Ok(ButlerSink::new(
        "site",
        removing(site, removal)?,
        Box::new(NoHistory),
    )?)
}

fn deliver(sink: &mut ButlerSink, requests: &[Request]) -> Vec<Settled> {
    in_order(requests, sink.deliver(requests.to_vec()))
}

/// `landing` again, as an event of `created_at`.
pub(crate) fn landed(landing: &Request, created_at: i64) -> Request {
    Request {
        event: EventId(next().into()),
        created_at: Micros(created_at),
        ..landing.clone()
    }
}

/// The replica of `landing` is gone, says an event of `created_at`.
pub(crate) fn gone(landing: &Request, created_at: i64) -> Request {
    Request {
        action: Action::Remove,
        sidecar: "".into(),
        event_type: "deletion-done".into(),
        ..landed(landing, created_at)
    }
}

/// The URI of each of these in the repository: absent, null where it is unstored.
fn uris(site: &mut Site, uuids: &[Uuid]) -> Result<Vec<Option<Value>>> {
    let content = site.content(uuids)?;
    let uri = |uuid: &Uuid| {
        content
            .get(uuid.to_string())
            .map(|dataset| dataset["uri"].clone())
    };
    Ok(uuids.iter().map(uri).collect())
}

on_both! {
    fn what_is_unstored_keeps_its_row_and_its_file_and_comes_back(site) {
        let mut sink = sink(site, Removal::Unstore)?;
        let datasets = site.products(&new_run("removal"), 3)?;
        let landings: Vec<Request> = requests(&datasets).iter().map(|r| landed(r, 10)).collect();
        deliver(&mut sink, &landings);
        let settled = deliver(&mut sink, &[gone(&landings[0], 20), gone(&landings[1], 20)]);
        ensure!(words(&settled) == ["removed", "removed"], "{settled:?}");
        ensure!(settled[0].uuids == [datasets[0].uuid]);
        let uuids: Vec<Uuid> = datasets.iter().map(|dataset| dataset.uuid).collect();
        let found = uris(site, &uuids)?;
        ensure!(found[..2] == [Some(Value::Null), Some(Value::Null)], "{found:?}");
        site.assert_registered(&datasets[2..])?;
        ensure!(datasets.iter().all(|dataset| Path::new(&dataset.uri).exists()));
        // Told again, by another name and later: nothing is left to do.
        let mut again = gone(&landings[0], 21);
        again.event_type = "deletion-not-found".into();
        ensure!(words(&deliver(&mut sink, &[again])) == ["not_there"]);
        // And it comes back.
        ensure!(words(&deliver(&mut sink, &[landed(&landings[0], 30)])) == ["ingested"]);
        site.assert_registered(&datasets[..1])
    }

    fn what_is_purged_is_gone_from_the_registry_and_its_file_stays(site) {
        let mut sink = sink(site, Removal::Purge)?;
        let datasets = site.products(&new_run("removal"), 2)?;
        let landings = requests(&datasets);
        deliver(&mut sink, &landings);
        let at = landings[0].created_at.0;
        let settled = deliver(&mut sink, &[gone(&landings[0], at + 1), gone(&landings[1], at + 1)]);
        ensure!(words(&settled) == ["removed", "removed"], "{settled:?}");
        site.assert_absent(&datasets)?;
        ensure!(datasets.iter().all(|dataset| Path::new(&dataset.uri).exists()));
        ensure!(words(&deliver(&mut sink, &[landed(&landings[0], at + 2)])) == ["ingested"]);
        site.assert_registered(&datasets[..1])
    }

    fn the_datasets_of_a_zip_go_together_and_dimension_records_stay(site) {
        let exposure = 70_000 + next();
        let (zip, uuids) = crate::archives::make_zip(site, exposure, &[1, 2, 3], false)?;
        site.helper.ask(json!({"op": "dimensions", "root": site.root, "exposures": [exposure]}))?;
        let zip = landed(&zip, 10);
        for removal in [Removal::Unstore, Removal::Purge] {
            let mut first = sink(site, removal)?;
            ensure!(words(&deliver(&mut first, &[landed(&zip, 10)])) == ["ingested"]);
            let settled = deliver(&mut first, &[gone(&zip, 20)]);
            ensure!(words(&settled) == ["removed"], "{settled:?}");
            ensure!(settled[0].uuids.len() == 3);
            let left = uris(site, &uuids)?;
            ensure!(left.iter().flatten().all(Value::is_null), "{left:?}");
            // The records that it needs are still there: it can come back at once.
            ensure!(words(&deliver(&mut first, &[landed(&zip, 30)])) == ["ingested"]);
            // By one who has never heard of it, too: it is found by its URI.
            let mut other = sink(site, removal)?;
            ensure!(words(&deliver(&mut other, &[gone(&zip, 40)])) == ["removed"]);
            let left = uris(site, &uuids)?;
            ensure!(left.iter().flatten().all(Value::is_null), "{left:?}");
            ensure!(Path::new(&*zip.uri).exists());
        }
        Ok(())
    }

    fn what_is_registered_from_another_replica_stays(site) {
        let mut sink = sink(site, Removal::Purge)?;
        let dataset = site.product(&new_run("removal"), 1, 1)?;
        let here = landed(&dataset.request(), 10);
        deliver(&mut sink, std::slice::from_ref(&here));
        let mut there = landed(&here, 11);
        there.rse = Rse::new("OTHER_DISK");
        there.uri = site.file()?.into();
        ensure!(words(&deliver(&mut sink, std::slice::from_ref(&there))) == ["already_there_elsewhere"]);
        let settled = deliver(&mut sink, &[gone(&there, 12)]);
        ensure!(words(&settled) == ["kept_elsewhere"], "{settled:?}");
        // Nor by one that does not say where it was.
        let mut silent = gone(&there, 13);
        silent.uri = "".into();
        ensure!(words(&deliver(&mut sink, &[silent])) == ["kept_elsewhere"]);
        site.assert_registered(std::slice::from_ref(&dataset))?;
        // That one itself, deleted by another door.
        let mut silent = gone(&here, 14);
        silent.uri = "".into();
        ensure!(words(&deliver(&mut sink, &[silent])) == ["removed"]);
        site.assert_absent(&[dataset])
    }

    fn a_removal_read_before_its_landing_still_wins_and_a_later_landing_wins_over_it(site) {
        let mut sink = sink(site, Removal::Unstore)?;
        let dataset = site.product(&new_run("removal"), 1, 1)?;
        let landing = dataset.request();
        ensure!(words(&deliver(&mut sink, &[gone(&landing, 20)])) == ["not_there"]);
        let settled = deliver(&mut sink, &[landed(&landing, 10), landed(&landing, 20)]);
        ensure!(words(&settled) == ["superseded", "superseded"]);
        site.assert_absent(std::slice::from_ref(&dataset))?;
        // All in one batch, the newest first.
        let story = [landed(&landing, 50), gone(&landing, 40), landed(&landing, 30)];
        ensure!(words(&deliver(&mut sink, &story)) == ["ingested", "superseded", "superseded"]);
        site.assert_registered(std::slice::from_ref(&dataset))?;
        let story = [landed(&landing, 60), gone(&landing, 70)];
        ensure!(words(&deliver(&mut sink, &story)) == ["superseded", "removed"]);
        Ok(())
    }

    fn what_was_registered_just_before_a_crash_does_not_outlive_its_file(site) {
        for removal in [Removal::Unstore, Removal::Purge] {
            for has_url in [true, false] {
                let dataset = site.product(&new_run("removal"), 1, 1)?;
                let landing = landed(&dataset.request(), 10);
                // Registered, and nobody wrote it down.
                ensure!(words(&deliver(&mut sink(site, removal)?, std::slice::from_ref(&landing))) == ["ingested"]);
                let mut removal_event = gone(&landing, 20);
                if !has_url {
                    removal_event.uri = "".into();
                }
                let settled = deliver(&mut sink(site, removal)?, &[landing, removal_event]);
                ensure!(words(&settled) == ["superseded", if has_url { "removed" } else { "not_there" }]);
                let left = uris(site, &[dataset.uuid])?;
                ensure!(left.iter().flatten().all(Value::is_null), "{left:?}");
            }
        }
        Ok(())
    }

    fn a_file_inside_the_datastore_is_never_deleted(site) {
        for removal in [Removal::Unstore, Removal::Purge] {
            let mut settings = removing(site, removal)?;
            settings.transfer.data_product = TransferMode::Auto;
            let inside = Path::new(&site.root).join("rucio");
            std::fs::create_dir_all(&inside)?;
            let mut dataset = site.product(&new_run("removal"), 1, 1)?;
            let path = inside.join(dataset.uuid.to_string());
            std::fs::rename(&dataset.uri, &path)?;
            dataset.uri = path.display().to_string();
            let landing = landed(&dataset.request(), 10);
            // A Butler of which it is not known that it can do so: another version.
            let mut other = settings.clone();
            other.worker.command.push("-c".into());
            other.worker.command.push(OTHER_VERSION.into());
            let mut sink = ButlerSink::new("site", settings, Box::new(NoHistory))?;
            ensure!(words(&deliver(&mut sink, std::slice::from_ref(&landing))) == ["ingested"]);
            let mut other = ButlerSink::new("site", other, Box::new(NoHistory))?;
            let settled = deliver(&mut other, &[gone(&landing, 20)]);
            ensure!(refusal(&settled[0])?.0 == Reason::Owned, "{settled:?}");
            site.assert_registered(std::slice::from_ref(&dataset))?;
            let settled = deliver(&mut sink, &[gone(&landing, 20)]);
            ensure!(words(&settled) == ["removed"], "{settled:?}");
            let left = uris(site, &[dataset.uuid])?;
            ensure!(left == [(removal == Removal::Unstore).then_some(Value::Null)], "{left:?}");
            ensure!(path.exists());
            // Nothing that the Butler does later takes it either.
            site.helper.ask(json!({"op": "trash", "root": site.root}))?;
            ensure!(path.exists());
            ensure!(words(&deliver(&mut sink, &[landed(&landing, 30)])) == ["ingested"]);
        }
        Ok(())
    }

    fn a_copy_in_the_datastore_is_the_butlers_own(site) {
        let mut settings = removing(site, Removal::Purge)?;
        settings.transfer.data_product = TransferMode::Copy;
        let mut sink = ButlerSink::new("site", settings, Box::new(NoHistory))?;
        let dataset = site.product(&new_run("removal"), 1, 1)?;
        let landing = landed(&dataset.request(), 10);
        deliver(&mut sink, std::slice::from_ref(&landing));
        let settled = deliver(&mut sink, &[gone(&landing, 20)]);
        ensure!(words(&settled) == ["kept_elsewhere"], "{settled:?}");
        ensure!(uris(site, &[dataset.uuid])?[0].as_ref().is_some_and(Value::is_string));
        Ok(())
    }

    fn what_nothing_is_known_of_is_not_there(site) {
        let mut sink = sink(site, Removal::Purge)?;
        let nowhere = request(Kind::DataProduct, "/nowhere/at/all");
        let mut nonsense = request(Kind::DataProduct, "b%d://uri with spaces");
        nonsense.uri = "no-such-scheme://x/y".into();
        let mut silent = request(Kind::ZipFile, "");
        silent.uri = "".into();
        let all = [gone(&nowhere, 1), gone(&nonsense, 1), gone(&silent, 1)];
        let settled = deliver(&mut sink, &all);
        ensure!(words(&settled) == ["not_there"; 3], "{settled:?}");
        Ok(())
    }
}

/// Says it is a Butler of the far future, then is the worker.
const OTHER_VERSION: &str = "
import runpy, sys
import lsst.daf.butler.version as version
version.__version__ = '99.2030.1'
script = sys.argv[1]
sys.path.insert(0, script.rsplit('/', 1)[0])
sys.argv = sys.argv[1:]
runpy.run_path(script, run_name='__main__')
";
