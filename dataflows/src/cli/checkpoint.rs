//! `dbb checkpoint list|verify|inspect`.

use super::{ConfigFile, Exit, exit::Told, now, output, rows::shown};
use crate::checkpoint::{self, CheckpointError, Listed, Manifest, Role, Store};
use clap::{Args, Subcommand};
use dbb_operators::Epoch;
use serde_json::{Value, json};

/// Arguments of `dbb checkpoint`.
#[derive(Debug, Args)]
pub struct CheckpointArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the checkpoints that are kept, the newest first
    List(Which),
    /// Look at every bit of them; exit status 1 if any is damaged
    Verify(Which),
    /// Show what one of them holds, the newest if none is named
    Inspect {
        #[command(flatten)]
        which: Which,
        /// Show rows of this kind of state, as they are in its files
        #[arg(long)]
        kind: Option<String>,
        /// Most rows that are shown
        #[arg(long, default_value_t = 20, requires = "kind")]
        limit: usize,
    },
}

#[derive(Debug, Args)]
struct Which {
    #[command(flatten)]
    file: ConfigFile,
    /// The checkpoint of this epoch alone
    #[arg(long)]
    epoch: Option<Epoch>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Which {
    /// The store, and the checkpoints that are meant.
    fn open(&self) -> anyhow::Result<(Store, Vec<Listed>)> {
        let settings = self.file.load()?.config.checkpoint;
        let Some(store) = Store::existing(&settings)? else {
            return Err(Told::new(
                Exit::Configuration,
                "checkpoint.url is not set: there are no checkpoints",
                "write `checkpoint: {url: /var/lib/dbb/checkpoints}`",
            )
            .into());
        };
        let mut listed = checkpoint::list(&store)?;
        if let Some(epoch) = self.epoch {
            listed.retain(|one| one.epoch == epoch);
        }
        Ok((store, listed))
    }
}

/// Does it.
pub(super) fn checkpoint(args: &CheckpointArgs) -> anyhow::Result<Exit> {
    match &args.command {
        Command::List(which) => list(which),
        Command::Verify(which) => verify(which),
        Command::Inspect { which, kind, limit } => inspect(which, kind.as_deref(), *limit),
    }
}

fn none(store: &Store) -> anyhow::Error {
    Told::new(
        Exit::Problems,
        format!("there is no such checkpoint in `{}`", store.url()),
        "`dbb checkpoint list` shows those that there are",
    )
    .into()
}

/// Of the rows, those in the base and those in deltas.
fn by_role(manifest: &Manifest, role: Role) -> u64 {
    let of = manifest.shards.iter().filter(|shard| shard.role == role);
    of.map(|shard| shard.rows).sum()
}

/// `complete`, or what is wrong; checksums are not looked at.
fn state(store: &Store, manifest: &Manifest) -> Result<String, CheckpointError> {
    let mut problems = Vec::new();
    for shard in &manifest.shards {
        match checkpoint::is_there(store, shard) {
            Ok(()) => {}
            Err(error @ CheckpointError::Damaged { .. }) => problems.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(if problems.is_empty() {
        "complete".into()
    } else {
        problems.join(", ")
    })
}

fn list(which: &Which) -> anyhow::Result<Exit> {
    let (store, listed) = which.open()?;
    let now = now();
    let mut objects = Vec::new();
    let mut lines = Vec::new();
    for one in &listed {
        let manifest = match &one.manifest {
            Ok(manifest) => manifest,
            Err(error) => {
                objects.push(json!({
                    "epoch": one.epoch, "generation": one.generation, "path": one.path, "state": error.to_string(),
                }));
                let mut line = vec![one.epoch.to_string(), one.generation.to_string()];
                line.resize(8, String::new());
                line.push(error.to_string());
                lines.push(line);
                continue;
            }
        };
        let state = state(&store, manifest)?;
        let age = now.seconds_since(manifest.at).max(0.0);
        objects.push(json!({
            "epoch": one.epoch,
            "generation": one.generation,
            "path": one.path,
            "at": manifest.at.to_string(),
            "written_at": manifest.written_at.to_string(),
            "age_seconds": age,
            "rows": manifest.rows(),
            "base_rows": by_role(manifest, Role::Base),
            "delta_rows": by_role(manifest, Role::Delta),
            "bytes": manifest.bytes(),
            "shards": manifest.shards.len(),
            "partitions": manifest.offsets.len(),
            "gaps": manifest.gaps.len(),
            "is_last": manifest.is_last,
            "state": state,
        }));
        lines.push(vec![
            one.epoch.to_string(),
            one.generation.to_string(),
            manifest.at.to_string(),
            format!("{age:.0} s"),
            by_role(manifest, Role::Base).to_string(),
            by_role(manifest, Role::Delta).to_string(),
            manifest.bytes().to_string(),
            manifest.offsets.len().to_string(),
            state,
        ]);
    }
    if which.json {
        output::json(&objects)?;
    } else if lines.is_empty() {
        output::print(&format!("no checkpoints in {}\n", store.url()))?;
    } else {
        let header = [
            "epoch",
            "generation",
            "time",
            "age",
            "base rows",
            "delta rows",
            "bytes",
            "partitions",
            "state",
        ];
        output::print(&output::table(&header, lines, &[0, 1, 3, 4, 5, 6, 7]))?;
    }
    Ok(Exit::Ok)
}

fn verify(which: &Which) -> anyhow::Result<Exit> {
    let (store, listed) = which.open()?;
    if listed.is_empty() {
        return Err(none(&store));
    }
    let mut damaged = false;
    let mut objects = Vec::new();
    let mut text = String::new();
    for one in listed {
        let (problems, what) = match one.manifest {
            Err(error) => (vec![error.to_string()], String::new()),
            Ok(manifest) => {
                let mut problems = Vec::new();
                for error in checkpoint::verify(&store, &manifest) {
                    match error {
                        CheckpointError::Damaged { .. } => problems.push(error.to_string()),
                        // Whether it is damaged is not known.
                        other => return Err(other.into()),
                    }
                }
                let what = format!(": {} shards, {} bytes", manifest.shards.len(), manifest.bytes());
                (problems, what)
            }
        };
        damaged |= !problems.is_empty();
        let word = if problems.is_empty() { "sound" } else { "damaged" };
        text.push_str(&format!("{} {word}{what}\n", one.path));
        for problem in &problems {
            text.push_str(&format!("  {problem}\n"));
        }
        objects.push(json!({
            "path": one.path, "epoch": one.epoch, "generation": one.generation, "state": word, "problems": problems,
        }));
    }
    if which.json {
        output::json(&objects)?;
    } else {
        output::print(&text)?;
    }
    Ok(if damaged { Exit::Problems } else { Exit::Ok })
}

fn inspect(which: &Which, kind: Option<&str>, limit: usize) -> anyhow::Result<Exit> {
    let (store, listed) = which.open()?;
    let Some(first) = listed.into_iter().next() else {
        return Err(none(&store));
    };
    let manifest = first.manifest?;
    if let Some(kind) = kind {
        return rows(&store, &manifest, kind, limit, which.json);
    }
    if which.json {
        output::json(&manifest)?;
        return Ok(Exit::Ok);
    }
    let mut text = format!(
        "{}: state at {} by dbb {}, written at {}{}\npipeline {}\n",
        first.path,
        manifest.at,
        manifest.by,
        manifest.written_at,
        if manifest.is_last {
            ", at the end of a run"
        } else {
            ""
        },
        shown(&manifest.pipeline),
    );
    let kinds = manifest.kinds.iter().map(|(kind, version)| {
        let of = |role: Role| -> (u64, u64, usize) {
            let shards = manifest
                .shards
                .iter()
                .filter(|s| s.kind == *kind && s.role == role);
            shards.fold((0, 0, 0), |(rows, bytes, count), s| {
                (rows + s.rows, bytes + s.bytes, count + 1)
            })
        };
        let (base, delta) = (of(Role::Base), of(Role::Delta));
        vec![
            kind.clone(),
            version.to_string(),
            base.0.to_string(),
            base.2.to_string(),
            delta.0.to_string(),
            delta.2.to_string(),
            (base.1 + delta.1).to_string(),
        ]
    });
    let header = [
        "kind",
        "version",
        "base rows",
        "base shards",
        "delta rows",
        "delta shards",
        "bytes",
    ];
    text.push('\n');
    text.push_str(&output::table(&header, kinds, &[1, 2, 3, 4, 5, 6]));
    if !manifest.offsets.is_empty() {
        let offsets = manifest
            .offsets
            .iter()
            .map(|at| vec![shown(&at.stream), at.partition.to_string(), at.next.to_string()]);
        text.push('\n');
        text.push_str(&output::table(
            &["stream", "partition", "next offset"],
            offsets,
            &[1, 2],
        ));
    }
    if !manifest.gaps.is_empty() {
        let gaps = manifest.gaps.iter().map(|gap| {
            vec![
                shown(&gap.stream),
                gap.partition.to_string(),
                gap.from.to_string(),
                gap.to.to_string(),
            ]
        });
        text.push('\n');
        text.push_str(&output::table(
            &["missing records of", "partition", "from", "below"],
            gaps,
            &[1, 2, 3],
        ));
    }
    output::print(&text)?;
    Ok(Exit::Ok)
}

fn rows(store: &Store, manifest: &Manifest, kind: &str, limit: usize, as_json: bool) -> anyhow::Result<Exit> {
    if !manifest.kinds.contains_key(kind) {
        let known: Vec<_> = manifest.kinds.keys().map(String::as_str).collect();
        return Err(Told::new(
            Exit::Usage,
            format!("this checkpoint holds no `{kind}`"),
            format!("it holds {}", known.join(", ")),
        )
        .into());
    }
    let mut found = Vec::new();
    for shard in manifest.shards.iter().filter(|shard| shard.kind == kind) {
        checkpoint::look(store, shard, limit - found.len().min(limit), &mut |key, value| {
            found.push((shard.path.clone(), key.to_vec(), value.map(<[u8]>::len)));
        })?;
    }
    if as_json {
        let rows: Vec<Value> = found
            .iter()
            .map(|(path, key, value)| json!({"shard": path, "key": words(key), "value_bytes": value}))
            .collect();
        output::json(&rows)?;
    } else {
        let rows = found.into_iter().map(|(path, key, value)| {
            let value = value.map_or_else(|| "removed".into(), |bytes| bytes.to_string());
            vec![words(&key), value, path]
        });
        output::print(&output::table(&["key", "value bytes", "shard"], rows, &[1]))?;
    }
    Ok(Exit::Ok)
}

/// A key for people: what is text as text, all else in hexadecimal digits.
fn words(key: &[u8]) -> String {
    let mut text = String::new();
    for run in key.chunk_by(|a, b| is_text(*a) == is_text(*b)) {
        // A letter or two among other bytes is chance.
        let plain = run.len() >= 3 && run.first().is_some_and(|byte| is_text(*byte));
        for byte in run {
            if plain {
                text.push(char::from(*byte));
            } else {
                text.push_str(&format!("{byte:02x}"));
            }
        }
        if plain {
            text.push(' ');
        }
    }
    text.trim_end().into()
}

fn is_text(byte: u8) -> bool {
    byte.is_ascii_graphic()
}
