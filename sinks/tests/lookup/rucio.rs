//! A real Rucio: its REST interface on PostgreSQL, with files as `rucio-register` registers them.

use anyhow::{Context, Result, ensure};
use dbb_events::{Ask, Did, Found, Outcome, ReplicaState, Rse};
use dbb_sinks::lookup::{
    LookUpError, LookUpSettings, LookUps,
    rucio::{DidType, Listing, Rucio as Client},
};
use dbb_test_services::{Postgres, Rucio, RucioOptions, scratch, wait_until};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

const SIDE: &str = r#"{"id":"95fb898e-a577-5690-8e9c-b1d180f220b0","datasetType":{"name":"raw","storageClass":"Exposure","dimensions":["instrument","detector","exposure"]},"dataId":{"dataId":{"instrument":"LSSTCam","detector":0,"exposure":2026040100001}},"run":"LSSTCam/raw/é \"all\""}"#;

fn ask(name: impl Into<String>) -> Ask {
    Ask {
        did: Did::new("raw", name.into()),
        rse: Rse::new("DISK"),
        url: None,
        source_url: None,
    }
}

fn look(all: &mut LookUps, names: &[String]) -> Result<Vec<Found>> {
    let asks = names.iter().map(ask).collect();
    let thread = all.threads.first_mut().context("a thread")?;
    Ok(thread.look_up(asks).into_iter().map(|(_, found)| found).collect())
}

fn settings(rucio: &Rucio, auth: Value) -> Result<LookUpSettings> {
    let mut settings = json!({"url": rucio.url(), "account": Rucio::ACCOUNT, "auth": auth});
    if let Ok(certificates) = rucio.certificates() {
        settings["ca_file"] = json!(certificates.authority);
    }
    Ok(serde_json::from_value(
        json!({"rucio": settings, "labels": ["tract"]}),
    )?)
}

fn userpass(folder: &Path, password: &str) -> Result<Value> {
    let path = folder.join(password.len().to_string());
    fs::write(&path, password)?;
    Ok(json!({"userpass": {"username": Rucio::USER, "password_file": path}}))
}

#[test]
fn what_is_registered_in_a_real_rucio_is_found_however_one_logs_in() -> Result<()> {
    let postgres = Postgres::start()?;
    let tls = RucioOptions {
        tls: true,
        ..RucioOptions::default()
    };
    let mut rucio = Rucio::with(&postgres, "rucio", &tls)?;
    let folder = scratch("lookup")?;
    rucio.add_rse("DISK", "davs://usdf.example.org:443/rucio/disk/", folder.path())?;
    rucio.client("add_scope", json!({"account": Rucio::ACCOUNT, "scope": "raw"}))?;
    let names: Vec<String> = (0..500).map(|n| format!("LSSTCam/20260401/{n}.fits")).collect();
    let metas = [
        json!({"rubin_butler": "raw_file", "rubin_sidecar": SIDE}),
        json!({"rubin_butler": "zip_file", "rubin_sidecar": ""}),
        json!({"rubin_butler": 1, "rubin_sidecar": SIDE, "tract": 9813}),
        json!({}),
        json!({"rubin_butler": "raw_file", "rubin_sidecar": "{}"}),
    ];
    let file = |(n, name): (usize, &String)| json!({"scope": "raw", "name": name, "bytes": 5, "adler32": "00000001", "meta": metas[n % metas.len()]});
    let files: Vec<Value> = names.iter().enumerate().map(file).collect();
    rucio.client("add_replicas", json!({"rse": "DISK", "files": files}))?;

    let check = |all: &mut LookUps| -> Result<()> {
        let start = Instant::now();
        let found = look(all, &names)?;
        println!("500 DIDs of a real Rucio: {:?}", start.elapsed());
        for (n, found) in found.iter().enumerate() {
            match (n % metas.len(), found) {
                (4, Found::Refused(refusal)) => ensure!(refusal.detail.contains(&names[n]), "{refusal:?}"),
                (kind @ 0..4, Found::Labels(labels)) => {
                    ensure!(serde_json::to_value(&**labels)? == metas[kind], "{labels:?}");
                }
                _ => anyhow::bail!("{n}: {found:?}"),
            }
        }
        let missing = look(
            all,
            &[
                "LSSTCam/none.fits".into(),
                names[0].clone(),
                "no such name!".into(),
            ],
        )?;
        let detail = |found: &Found| match found {
            Found::Later(Outcome::Waiting {
                detail, counts: true, ..
            }) => detail.clone(),
            other => format!("{other:?}"),
        };
        ensure!(
            detail(&missing[0]) == "Rucio knows no DID raw:LSSTCam/none.fits",
            "{missing:?}"
        );
        ensure!(matches!(&missing[1], Found::Labels(_)));
        ensure!(
            detail(&missing[2]).contains("does not accept a name"),
            "{missing:?}"
        );
        ensure!(!all.stats.snapshot().down, "{:?}", all.stats.snapshot());
        Ok(())
    };
    let certificates = rucio.certificates()?;
    let x509 = json!({"x509": {"certificate": certificates.client, "key": certificates.client_key}});
    check(&mut LookUps::open(&settings(&rucio, x509)?)?)?;
    let passwords = settings(&rucio, userpass(folder.path(), Rucio::PASSWORD)?)?;
    let wrong = LookUps::open(&passwords)?.check(&passwords);
    ensure!(wrong.is_empty(), "{wrong:?}");
    let mut by_password = LookUps::open(&settings(&rucio, userpass(folder.path(), Rucio::PASSWORD)?)?)?;
    check(&mut by_password)?;
    let stats = by_password.stats.snapshot();
    ensure!(stats.logins == 1 && stats.requests <= 8, "{stats:?}");

    // What was given to somebody is a token like any other.
    let token = postgres.sql(
        "rucio",
        "SELECT token FROM tokens ORDER BY created_at DESC LIMIT 1",
    )?;
    let path = folder.path().join("token");
    fs::write(&path, token)?;
    check(&mut LookUps::open(&settings(
        &rucio,
        json!({"token_file": path}),
    )?)?)?;

    let mut wrong = LookUps::open(&settings(&rucio, userpass(folder.path(), "wrong")?)?)?;
    let Found::Later(Outcome::Waiting {
        detail,
        counts: false,
        ..
    }) = &look(&mut wrong, &names[..1])?[0]
    else {
        anyhow::bail!("a wrong password is accepted");
    };
    ensure!(
        detail.contains("account `root`") && detail.contains("CannotAuthenticate"),
        "{detail}"
    );

    // Metadata that are set later are seen, and a token that Rucio has forgotten is renewed.
    let late = json!({"scope": "raw", "name": names[3], "key": "rubin_butler", "value": "dim_file"});
    rucio.client("set_metadata", late)?;
    postgres.sql("rucio", "DELETE FROM tokens")?;
    let mut settings = settings(&rucio, userpass(folder.path(), Rucio::PASSWORD)?)?;
    settings.cache.unlabelled_ttl_s = 0;
    let mut fresh = LookUps::open(&settings)?;
    let Found::Labels(labels) = &look(&mut fresh, &names[3..4])?[0] else {
        anyhow::bail!("no labels");
    };
    ensure!(labels["rubin_butler"] == "dim_file");

    rucio.kill_server()?;
    let Found::Later(Outcome::Waiting { counts: false, .. }) = &look(&mut fresh, &names[..1])?[0] else {
        anyhow::bail!("a dead Rucio answers");
    };
    rucio.start_server()?;
    wait_until("Rucio answers again", Duration::from_secs(60), || {
        Ok(matches!(&look(&mut fresh, &names[..1])?[0], Found::Labels(_)))
    })?;
    lists(
        &mut rucio,
        fresh.rucio.as_ref().context("Rucio is configured")?,
        &names,
    )
}

/// Replicas, contents and names, as a comparison of a whole site needs them.
fn lists(rucio: &mut Rucio, client: &Client, names: &[String]) -> Result<()> {
    let other = scratch("lookup")?;
    rucio.add_rse("OTHER", "davs://frdf.example.org:443/rucio/disk/", other.path())?;
    let copy = json!({"scope": "raw", "name": names[0], "bytes": 5, "adler32": "00000001"});
    rucio.client("add_replicas", json!({"rse": "OTHER", "files": [copy]}))?;
    let dataset = Did::new("raw", "LSSTCam/20260401");
    rucio.client("add_dataset", json!({"scope": "raw", "name": dataset.name}))?;
    let dids: Vec<Value> = names
        .iter()
        .map(|name| json!({"scope": "raw", "name": name}))
        .collect();
    rucio.client(
        "attach_dids",
        json!({"scope": "raw", "name": dataset.name, "dids": dids}),
    )?;

    let mut replicas = BTreeMap::new();
    let asked = [dataset.clone()];
    let listing = client.replicas(&asked, None, &mut |row| {
        drop(replicas.insert(row.did.clone(), row))
    })?;
    ensure!(
        listing
            == Listing {
                rows: 500,
                ..Listing::default()
            },
        "{listing:?}"
    );
    let first = &replicas[&Did::new("raw", names[0].as_str())];
    ensure!(
        first.bytes == Some(5) && first.adler32.as_deref() == Some("00000001"),
        "{first:?}"
    );
    let at = |rse| first.at.get(&Rse::new(rse)).context("a replica");
    ensure!(at("DISK")?.state == ReplicaState::Available && at("OTHER")?.state == ReplicaState::Available);
    let url = format!("davs://frdf.example.org:443/rucio/disk/raw/{}", names[0]);
    ensure!(at("OTHER")?.urls == [url], "{first:?}");
    ensure!(replicas[&Did::new("raw", names[1].as_str())].at.len() == 1);

    // At one RSE only, by the names of files, one of which Rucio does not know.
    let files = [&names[0], &names[1], "none"].map(|name| Did::new("raw", name));
    let mut rows = Vec::new();
    client.replicas(&files, Some("OTHER"), &mut |row| rows.push(row))?;
    let there: Vec<_> = rows
        .iter()
        .filter(|row| !row.at.is_empty())
        .map(|row| &row.did)
        .collect();
    ensure!(there == [&files[0]], "{rows:?}");

    let mut files = BTreeSet::new();
    let listing = client.files(&dataset, &mut |file| files.extend([file.did.name.to_string()]))?;
    ensure!(
        listing.rows == 500 && files == names.iter().cloned().collect(),
        "{listing:?}"
    );
    let unknown = client.files(&Did::new("raw", "no/such"), &mut |_| ());
    ensure!(
        matches!(unknown, Err(LookUpError::Failed { status: 404, .. })),
        "{unknown:?}"
    );

    let mut found = Vec::new();
    client.dids("raw", DidType::Dataset, "*", &mut |did| found.push(did))?;
    ensure!(found == [dataset]);
    let listing = client.dids("raw", DidType::File, "LSSTCam/20260401/1*", &mut |_| ())?;
    ensure!(listing.rows == 111, "{listing:?}");
    Ok(())
}
