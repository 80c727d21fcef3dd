//! What a listing tells beside the events: files from before the ledger, and files that no event told of.

use crate::{removal::stored, site};
use anyhow::{Context, Result, ensure};
use dbb_tests::{Recorded, Site};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::PathBuf};

/// The landings of a site, each file once, without those of which the replica cannot be told.
fn landings(site: &Site) -> Result<Vec<Value>> {
    let mut seen = BTreeSet::new();
    let mut events = Vec::new();
    for record in Recorded::of(site)?
        .iter()
        .filter(|record| record.is_for_a_butler())
    {
        let event: Value = serde_json::from_slice(&record.value)?;
        if record.did().is_some_and(|did| seen.insert(did)) {
            events.push(event);
        }
    }
    Ok(events)
}

/// A listing as Rucio's REST interface gives it.
fn write_listing(site: &Site, events: &[Value], with_urls: bool) -> Result<PathBuf> {
    let mut text = "{\"listed_at\": \"2027-02-01 00:00:00\"}\n".to_owned();
    for event in events {
        let p = &event["payload"];
        let rse = p["dst-rse"].as_str().context("no RSE")?;
        let row = json!({
            "scope": p["scope"], "name": p["name"], "bytes": p["bytes"], "adler32": p["checksum-adler"],
            "states": {rse: "AVAILABLE"}, "rses": {rse: if with_urls { json!([p["dst-url"]]) } else { json!([]) }},
        });
        text.push_str(&format!("{row}\n"));
    }
    let path = site.path().join("listing.ndjson");
    fs::write(&path, text)?;
    Ok(path)
}

/// The section of the configuration.
fn rses(site: &Site) -> Result<serde_json::Map<String, Value>> {
    let config = fs::read_to_string(site.config())?;
    let rses = config.lines().find_map(|line| line.strip_prefix("rses: "));
    Ok(serde_json::from_str(rses.context("no RSEs")?)?)
}

/// Puts the labels of each file beside it, and gives the configuration that finds them there.
fn write_documents(site: &Site, rses: &serde_json::Map<String, Value>, events: &[Value]) -> Result<PathBuf> {
    let mut prefixes = Vec::new();
    for settings in rses.values() {
        prefixes.extend(settings["prefixes"].as_array().context("no prefixes")?.clone());
    }
    for event in events {
        let p = &event["payload"];
        let url = p["dst-url"].as_str().context("no URL")?;
        let path = prefixes
            .iter()
            .find_map(|prefix| {
                let rest = url.strip_prefix(prefix["from"].as_str()?)?;
                Some(format!("{}{rest}", prefix["to"].as_str()?))
            })
            .context("no prefix fits")?;
        let labels = json!({"rubin_butler": p["rubin_butler"], "rubin_sidecar": p["rubin_sidecar"]});
        fs::write(format!("{path}.labels.json"), labels.to_string())?;
    }
    let lookup = site.path().join("lookup.yaml");
    let documents = json!({"documents": {"prefixes": prefixes, "one_per_file": ["{name}.labels.json"]}});
    fs::write(&lookup, documents.to_string())?;
    Ok(lookup)
}

/// A repository that copies zips has them under its own names: by the ledger, or by their indexes, it is known whose they
/// are. A replica that is listed twice is one. (The demonstration's other files can be registered where they are alone.)
#[test]
fn what_a_butler_has_under_names_of_its_own_is_not_missing_whatever_the_mode() -> Result<()> {
    for mode in ["direct", "auto", "copy", "link"] {
        let mut site = site("--files 30 --faults none --late 0")?;
        let set = format!("repositories.main.transfer.zip_file={mode}");
        site.set(set.clone());
        site.run_once(&[])?.with(0)?;
        let events = landings(&site)?;
        let twice: Vec<Value> = events
            .iter()
            .flat_map(|event| [event.clone(), event.clone()])
            .collect();
        let listing = write_listing(&site, &twice, true)?;
        let listing = listing.to_str().context("path")?;
        let rses = rses(&site)?;
        let lookup = write_documents(&site, &rses, &events)?;
        let lookup = ["--rucio", lookup.to_str().context("path")?];
        let sets = ["--set", set.as_str()];
        // For each RSE: its files of each kind, and what is told of them.
        let reconciled = |more: &[&str]| -> Result<Vec<([u64; 3], Value)>> {
            rses.keys()
                .map(|rse| {
                    let mut kinds = [0; 3];
                    for event in events.iter().filter(|event| event["payload"]["dst-rse"] == **rse) {
                        kinds[match event["payload"]["rubin_butler"].as_str() {
                            Some("dim_file") => 0,
                            Some("zip_file") => 1,
                            _ => 2,
                        }] += 1;
                    }
                    let mut arguments =
                        vec!["--rse", rse.as_str(), "--listing", listing, "--dry-run", "--json"];
                    arguments.extend(&sets);
                    arguments.extend(more);
                    let (_, text, error) = site.dbb(&["reconcile"], &arguments)?;
                    let told: Value = serde_json::from_str(&text).with_context(|| error)?;
                    let files: u64 = kinds.iter().sum();
                    ensure!(told["replicas"] == files, "{mode}: {files} files: {text}");
                    Ok((kinds, told["repositories"]["main"].clone()))
                })
                .filter(|found| {
                    found
                        .as_ref()
                        .map_or(true, |(kinds, _)| kinds.iter().sum::<u64>() > 0)
                })
                .collect()
        };
        // By the ledger.
        for (kinds, told) in reconciled(&[])? {
            let files: u64 = kinds.iter().sum();
            ensure!(
                told["there"] == files && told["missing"] == 0 && told["unexpected"] == 0,
                "{mode}: {kinds:?} by the ledger: {told}"
            );
        }
        // By what a file and its labels say; dimension files leave nothing that could be found.
        for file in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
            let _ = fs::remove_file(site.path().join(file));
        }
        for ([dimensions, zips, others], told) in reconciled(&lookup)? {
            ensure!(
                told["there"] == zips + others && told["missing"] == dimensions && told["same_uuid"] == 0,
                "{mode}: {zips} zips, {others} others by their UUIDs: {told}"
            );
        }
        for ([dimensions, zips, others], told) in reconciled(&[])? {
            ensure!(
                told["there"] == zips + others && told["missing"] == dimensions,
                "{mode}: {zips} zips by their indexes: {told}"
            );
        }
        let mut arguments = vec!["--listing", listing];
        arguments.extend(&sets);
        let (status, text, error) = site.dbb(&["ledger", "import"], &arguments)?;
        ensure!(status == 0, "{text}{error}");
        for ([_, zips, _], told) in reconciled(&[])? {
            ensure!(
                told["there"].as_u64() >= Some(zips),
                "{mode}: {zips} zips by an import: {told}"
            );
        }
    }
    Ok(())
}

fn is_dimension_file(event: &Value) -> bool {
    event["payload"]["rubin_butler"] == "dim_file"
}

#[test]
fn files_from_before_the_ledger_are_known_by_an_import_and_leave_when_they_are_deleted() -> Result<()> {
    let mut site = site("--files 40 --faults none")?;
    site.run_once(&[])?.with(0)?;
    let before = stored(&site)?.len();
    fs::remove_file(site.path().join("ledger.sqlite"))?;
    let events = landings(&site)?;
    let files: Vec<&Value> = events.iter().filter(|event| !is_dimension_file(event)).collect();
    // One that is not listed, and two that no Butler has.
    let mut listed = events.clone();
    let unlisted = listed
        .iter()
        .position(|event| !is_dimension_file(event))
        .context("no file")?;
    listed.remove(unlisted);
    let mut unheard_of = files[1].clone();
    unheard_of["payload"]["name"] = "nowhere/to/be/seen.fits".into();
    listed.push(unheard_of);
    for with_urls in [true, false] {
        let listing = write_listing(&site, &listed, with_urls)?;
        let (status, text, error) = site.dbb(
            &["ledger", "import"],
            &["--listing", listing.to_str().context("path")?],
        )?;
        ensure!(status == 0, "{text}{error}");
        let row: Vec<u64> = text
            .lines()
            .find(|line| line.starts_with("main"))
            .context("no row")?
            .split_whitespace()
            .flat_map(str::parse)
            .collect();
        let matched = files.len() as u64 - 1;
        let dimensions = (events.len() - files.len()) as u64;
        let new = if with_urls { matched } else { 0 };
        ensure!(row == [matched, new, dimensions + 1, 1, before as u64], "{text}");
    }
    // Two are deleted, by events that do not say where they were.
    site.set("repositories.main.removal=unstore");
    let gone: Vec<String> = [files[2], files[3]]
        .iter()
        .map(|event| {
            let p = &event["payload"];
            let value = json!({
                "event_type": "deletion-done", "created_at": "2027-03-01 00:00:00",
                "payload": {"scope": p["scope"], "name": p["name"], "rse": p["dst-rse"], "url": null},
            });
            value.to_string()
        })
        .collect();
    fs::write(site.path().join("events/0009.ndjson"), gone.join("\n") + "\n")?;
    site.run_once(&[])?.with(0)?;
    ensure!(site.count(|state| state.as_str() == "removed")? == 2);
    let after = stored(&site)?;
    for event in [files[2], files[3]] {
        let url = event["payload"]["dst-url"].as_str().context("no URL")?;
        let name = url.rsplit('/').next().context("no name")?;
        ensure!(
            !after.iter().any(|uri| uri.contains(name)),
            "{name} is still stored"
        );
    }
    ensure!(after.len() < before);
    Ok(())
}

#[test]
fn an_empty_butler_is_filled_from_a_listing_and_sidecar_documents() -> Result<()> {
    let mut site = site("--files 40 --faults none")?;
    let events = landings(&site)?;
    // What a hub would have looked up lies beside each file, and no event will ever be read.
    let rses = rses(&site)?;
    let lookup = write_documents(&site, &rses, &events)?;
    fs::rename(site.path().join("events"), site.path().join("unread"))?;
    fs::create_dir(site.path().join("events"))?;
    let listing = write_listing(&site, &events, true)?;
    let paths = [
        listing.to_str().context("path")?,
        lookup.to_str().context("path")?,
    ];
    let reconcile = |site: &Site, rse: &str, more: &[&str]| {
        let mut arguments = vec!["--rse", rse, "--listing", paths[0], "--rucio", paths[1]];
        arguments.extend(more);
        site.dbb(&["reconcile"], &arguments)
    };
    let rses: Vec<&String> = rses.keys().collect();
    let mut missing = 0;
    for rse in &rses {
        let here = events
            .iter()
            .filter(|event| event["payload"]["dst-rse"] == ***rse)
            .count();
        let (status, text, error) = reconcile(&site, rse, &["--dry-run", "--json"])?;
        ensure!(status == i32::from(here > 0), "{status}: {text}{error}");
        let told: Value = serde_json::from_str(&text)?;
        let counts = &told["repositories"]["main"];
        ensure!(
            here == 0 || counts["missing"] == here && counts["sent"] == 0,
            "{here}: {text}"
        );
        let (status, text, error) = reconcile(&site, rse, &["--json"])?;
        ensure!(status == i32::from(here > 0), "{status}: {text}{error}");
        // Told again before anyone has taken them up: nothing is sent twice.
        let (_, text, _) = reconcile(&site, rse, &["--json"])?;
        let told: Value = serde_json::from_str(&text)?;
        ensure!(
            here == 0 || told["repositories"]["main"]["waiting"] == here,
            "{text}"
        );
        missing += here;
    }
    ensure!(missing == events.len());
    site.set("repositories.main.patience.retry_s=1");
    site.run_once(&[])?.with(0)?;
    site.prove_butler()?;
    for rse in &rses {
        let (status, text, error) = reconcile(&site, rse, &[])?;
        ensure!(status == 0, "{status}: {text}{error}");
    }
    // A file that nobody lists any more.
    let last = events
        .iter()
        .rposition(|event| !is_dimension_file(event))
        .context("no file")?;
    let mut fewer = events.clone();
    let unlisted = fewer.remove(last);
    write_listing(&site, &fewer, true)?;
    let rse = unlisted["payload"]["dst-rse"].as_str().context("no RSE")?;
    let (status, text, _) = reconcile(&site, rse, &["--json"])?;
    let told: Value = serde_json::from_str(&text)?;
    ensure!(
        status == 0 && told["repositories"]["main"]["unexpected"] == 1,
        "{text}"
    );
    Ok(())
}
