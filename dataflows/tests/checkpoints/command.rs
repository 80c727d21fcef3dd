//! What a person sees of checkpoints: a run that goes on from files, and `dbb checkpoint list|verify|inspect`.

use dbb_test_services::scratch;
use serde_json::Value;
use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::Command,
};
use tempfile::TempDir;

/// Events of a run.
const HALF: usize = 400;

struct Site(TempDir);

struct Ended {
    status: i32,
    out: String,
    err: String,
}

impl Site {
    fn new() -> Self {
        let folder = scratch("command").unwrap();
        fs::create_dir(folder.path().join("events")).unwrap();
        let site = Self(folder);
        site.configure("log: {paths: [events]}");
        site
    }

    fn configure(&self, source: &str) {
        let config = format!(
            "source: {{{source}}}\nledger: {{url: \"sqlite:ledger.sqlite\"}}\nviews: {{keep: [all]}}\n\
             checkpoint: {{url: kept}}\nhttp: {{listen: null}}\n"
        );
        fs::write(self.0.path().join("site.yaml"), config).unwrap();
    }

    /// Writes these events to the end of the only file.
    fn append(&self, from: usize, to: usize) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.0.path().join("events/night.ndjson"))
            .unwrap();
        for n in from..to {
            let event = serde_json::json!({
                "event_type": "transfer-done",
                "created_at": format!("2026-04-01 00:00:00.{n:06}"),
                "payload": {
                    "scope": "raw", "name": format!("{n}.fits"), "bytes": n, "request-id": format!("{n:032x}"),
                    "src-rse": "A_DISK", "dst-rse": "B_DISK", "activity": "Test",
                },
            });
            let record = serde_json::json!({"topic": "t", "value": event.to_string()});
            writeln!(file, "{record}").unwrap();
        }
    }

    fn dbb(&self, words: &[&str]) -> Ended {
        let output = Command::new(env!("CARGO_BIN_EXE_dbb"))
            .args(words)
            .current_dir(self.0.path())
            .output()
            .unwrap();
        Ended {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn run(&self) -> Ended {
        self.dbb(&["run", "site.yaml", "--run-once"])
    }

    fn kept(&self, path: &str) -> PathBuf {
        self.0.path().join("kept").join(path)
    }

    /// What `list` tells, the newest first.
    fn list(&self) -> Vec<Value> {
        let listed = self.dbb(&["checkpoint", "list", "site.yaml", "--json"]).expect(0);
        let values: Value = serde_json::from_str(&listed.out).unwrap();
        values.as_array().unwrap().clone()
    }

    /// The path of the newest manifest.
    fn newest(&self) -> String {
        self.list()[0]["path"].as_str().unwrap().to_owned()
    }
}

impl Ended {
    fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}{}", self.out, self.err);
        self
    }

    fn says(&self, words: &[&str]) {
        for word in words {
            assert!(
                self.out.contains(word) || self.err.contains(word),
                "{word}: {}{}",
                self.out,
                self.err
            );
        }
    }
}

/// Two runs over one file that grew.
fn two_runs() -> Site {
    let site = Site::new();
    site.append(0, HALF);
    let first = site.run().expect(0);
    first.says(&[
        "no checkpoint to go on from",
        "the last checkpoint is written",
        "400 records read",
    ]);
    site.append(HALF, 2 * HALF);
    // From the byte after the last line that was read.
    let second = site.run().expect(0);
    second.says(&["resuming from a checkpoint", "400 records read"]);
    site
}

#[test]
fn a_run_goes_on_where_the_file_was_left_and_its_checkpoints_are_listed_verified_and_shown() {
    let site = two_runs();
    let listed = site.list();
    let newest = &listed[0];
    assert_eq!(newest["state"], "complete", "{newest}");
    assert_eq!(newest["is_last"], true, "{newest}");
    assert_eq!(newest["partitions"], 1, "{newest}");
    let table = site.dbb(&["checkpoint", "list", "site.yaml"]).expect(0);
    table.says(&["generation", "complete"]);
    site.dbb(&["checkpoint", "verify", "site.yaml"])
        .expect(0)
        .says(&[&site.newest(), "sound"]);
    let shown = site.dbb(&["checkpoint", "inspect", "site.yaml"]).expect(0);
    shown.says(&["replicas", "night.ndjson", "at the end of a run"]);
    let epoch = newest["epoch"].to_string();
    site.dbb(&[
        "checkpoint",
        "inspect",
        "site.yaml",
        "--epoch",
        &epoch,
        "--kind",
        "replicas",
    ])
    .expect(0);
    site.dbb(&["checkpoint", "inspect", "site.yaml", "--epoch", "1"])
        .expect(1)
        .says(&["there is no such checkpoint"]);
}

#[test]
fn a_flipped_bit_is_named_and_the_next_run_goes_on_from_the_checkpoint_before() {
    let site = two_runs();
    let newest = site.newest();
    let manifest = fs::read(site.kept(&newest)).unwrap();
    let manifest: Value = serde_json::from_slice(manifest.split(|b| *b == b'\n').next().unwrap()).unwrap();
    let shards = manifest["shards"].as_array().unwrap();
    let shard = shards.last().unwrap()["path"].as_str().unwrap();
    let mut bytes = fs::read(site.kept(shard)).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 4;
    fs::write(site.kept(shard), bytes).unwrap();
    site.dbb(&["checkpoint", "verify", "site.yaml"])
        .expect(1)
        .says(&[&newest, "damaged", shard]);
    site.append(2 * HALF, 2 * HALF + 100);
    let run = site.run().expect(0);
    // What was read before has its outcomes, and is only put into the views again.
    run.says(&["going back to the one before", shard, "100 records read"]);
}

/// Neither is touched: whoever wrote it can go on from it.
#[test]
fn what_another_pipeline_or_a_newer_dbb_wrote_is_refused_with_the_file_and_the_next_step() {
    let site = two_runs();
    let newest = site.newest();
    let before = fs::read(site.kept(&newest)).unwrap();
    site.configure("kafka: {brokers: [\"127.0.0.1:1\"], group_id: other, topics: [t]}");
    let other = site.run().expect(78);
    other.says(&["events of files", "events of group other", "checkpoint.url"]);
    assert_eq!(fs::read(site.kept(&newest)).unwrap(), before);

    site.configure("log: {paths: [events]}");
    let text = String::from_utf8(before).unwrap();
    let line = text
        .lines()
        .next()
        .unwrap()
        .replacen("\"format\":1", "\"format\":2", 1);
    let checksum = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(line.as_bytes()));
    let seal = serde_json::json!({"hash": "xxh3-128", "checksum": checksum});
    let newer = format!("{line}\n{seal}\n");
    fs::write(site.kept(&newest), &newer).unwrap();
    let run = site.run().expect(78);
    run.says(&[&newest, "format 2", "newer"]);
    assert_eq!(fs::read_to_string(site.kept(&newest)).unwrap(), newer);
}

#[test]
fn where_no_checkpoint_is_whole_the_views_are_made_anew_from_the_source() {
    let site = two_runs();
    for shard in fs::read_dir(site.kept("shards")).unwrap() {
        fs::remove_file(shard.unwrap().path()).unwrap();
    }
    site.append(2 * HALF, 2 * HALF + 100);
    let run = site.run().expect(0);
    run.says(&[
        "views are made anew",
        "100 records read",
        "the last checkpoint is written",
    ]);
    // What was read is not registered again, and the next run goes on from the new ones.
    site.append(2 * HALF + 100, 2 * HALF + 200);
    site.run()
        .expect(0)
        .says(&["resuming from a checkpoint", "100 records read"]);
}

/// Views would be a mixture of what both told.
#[test]
fn one_folder_is_one_pipeline_unless_asked_for() {
    let site = two_runs();
    let path = site.0.path().join("site.yaml");
    let config = fs::read_to_string(&path).unwrap();
    fs::create_dir(site.0.path().join("others")).unwrap();
    for other in [
        config.replace("[events]", "[others]"),
        config.replace("ledger.sqlite", "other.sqlite"),
    ] {
        fs::write(&path, &other).unwrap();
        site.run()
            .expect(78)
            .says(&["another pipeline", "checkpoint.adopt"]);
        site.dbb(&["run", "site.yaml", "--run-once", "--set", "checkpoint.adopt=true"])
            .expect(0)
            .says(&["as asked for", "resuming from a checkpoint"]);
        // From then on they are its own, and nobody else's.
        site.run().expect(0).says(&["resuming from a checkpoint"]);
        fs::write(&path, &config).unwrap();
        site.run().expect(78);
        site.dbb(&["run", "site.yaml", "--run-once", "--set", "checkpoint.adopt=true"])
            .expect(0);
    }
    // One that has grown is the same.
    fs::write(&path, config.replace("[events]", "[events, others]")).unwrap();
    site.run().expect(0).says(&["resuming from a checkpoint"]);
}
