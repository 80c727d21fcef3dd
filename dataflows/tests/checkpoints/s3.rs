//! The same in S3, against a server of this machine.
//!
//! Credentials come from variables, so the work is done by another process: see `faults`.

use crate::{
    faults::{other, said},
    rows::{Dice, Fold, changes},
    site::{Site, Wanted, assert_holds, found},
};
use dbb::checkpoint::{CheckpointError, Settings, Store, list, verify};
use dbb_operators::checkpoint::Restored;
use dbb_test_services::S3;
use std::path::Path;

fn settings(url: &str, endpoint: &str) -> Settings {
    Settings {
        url: Some(url.into()),
        endpoint: Some(endpoint.into()),
        allow_http: true,
        ..Settings::default()
    }
}

#[test]
fn checkpoints_in_s3_are_written_once_read_back_and_pruned() {
    let server = S3::start().unwrap();
    let (url, endpoint) = (server.url("a/b"), server.endpoint());
    let output = other(&[], "s3", Path::new(""))
        .envs(server.environment())
        .env("CHECKPOINT_TEST_URL", url)
        .env("CHECKPOINT_TEST_ENDPOINT", endpoint)
        .output()
        .unwrap();
    let said = said(&output);
    assert!(
        output.status.success() && said.contains("all is well in S3"),
        "{said}"
    );
}

pub(crate) fn work() {
    let (url, endpoint) = (
        std::env::var("CHECKPOINT_TEST_URL").unwrap(),
        std::env::var("CHECKPOINT_TEST_ENDPOINT").unwrap(),
    );
    let store = Store::open(&settings(&url, &endpoint)).unwrap().unwrap();
    assert!(found(&store).unwrap().is_none());
    let mut dice = Dice(1);
    let mut fold = Fold::default();
    let site = Site::start(&Wanted {
        processes: 2,
        ..Wanted::of(&store, 1)
    });
    for n in 1..=25 {
        let parts: Vec<_> = (0..2)
            .map(|process| changes(&mut dice, process, 2, 300))
            .collect();
        parts.iter().flatten().for_each(|handed| fold.apply(handed));
        site.checkpoint(n * 10, parts).unwrap();
    }
    site.end();
    let there = list(&store).unwrap();
    assert_eq!(
        there.iter().map(|one| one.epoch).collect::<Vec<_>>(),
        [250, 240, 230]
    );
    assert!(
        there
            .iter()
            .all(|one| verify(&store, one.manifest.as_ref().unwrap()).is_empty())
    );
    let newest = found(&store).unwrap().unwrap();
    assert_eq!(newest.epoch(), 250);
    for of in 1..=3 {
        assert_holds(&newest, &fold, of);
    }
    // Another who commits the same epoch, and one whose time is over.
    let site = Site::start(&Wanted::of(&store, 1));
    let error = site.checkpoint(250, vec![vec![]]).unwrap_err();
    assert!(
        matches!(error, CheckpointError::Taken { epoch: 250, .. }),
        "{error}"
    );
    site.end();
    let site = Site::start(&Wanted::of(&store, 0));
    let error = site.checkpoint(260, vec![vec![]]).unwrap_err();
    assert!(matches!(error, CheckpointError::Fenced { .. }), "{error}");
    site.end();
    // A bucket that is not there.
    let error = Store::open(&settings("s3://nowhere/a", &endpoint)).unwrap_err();
    assert!(error.to_string().contains("is the bucket there"), "{error}");
    // Nobody listens there.
    let error = Store::open(&settings(&url, "http://127.0.0.1:1")).unwrap_err();
    assert!(
        error.is_transient() && error.to_string().contains("is the service up"),
        "{error}"
    );
    println!("all is well in S3");
}
