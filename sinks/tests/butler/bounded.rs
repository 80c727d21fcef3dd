//! Files and workers that would fill the memory: named and refused, and the others go on.

use crate::harness::*;
use anyhow::{Context, Result, ensure};
use dbb_events::{Kind, Reason};
use dbb_sinks::{
    Sink,
    butler::{ButlerSettings, ButlerSink, NoHistory},
};
use serde_json::json;
use std::{fs, io::Write};

/// A worker of its own that may have half a gigabyte.
fn small(site: &Site) -> Result<ButlerSettings> {
    let mut settings = settings(&site.root)?;
    settings.worker.memory_mib = Some(512);
    Ok(settings)
}

#[test]
fn an_index_that_inflates_without_end_is_refused_and_never_in_memory() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let mut sink = ButlerSink::new("site", small(site)?, Box::new(NoHistory))?;
    let good = crate::archives::make_zip(site, 70_000 + next(), &[1], true)?.0;
    let mut batch = vec![good];
    let cases = [
        (json!({"bytes": 900_000_000}), "has 900000000 bytes, more than"),
        // Its header lies.
        (
            json!({"bytes": 900_000_000, "says": 100}),
            "says that it has 100 bytes, and has more",
        ),
        (
            json!({"bytes": 2_000_000, "method": "bzip2"}),
            "compressed by method 12",
        ),
    ];
    for (case, _) in &cases {
        let path = site.folder.join(format!("bomb-{}.zip", next()));
        let mut ask = json!({"op": "bomb", "path": path});
        if let (Some(ask), Some(case)) = (ask.as_object_mut(), case.as_object()) {
            ask.extend(case.clone());
        }
        site.helper.ask(ask)?;
        batch.push(request(Kind::ZipFile, &path.display().to_string()));
    }
    let settled = in_order(&batch, sink.deliver(batch.clone()));
    ensure!(words(&settled[..1]) == ["ingested"], "{settled:?}");
    for (answer, (_, expected)) in settled[1..].iter().zip(&cases) {
        let (reason, detail) = refusal(answer)?;
        ensure!(
            reason == Reason::BadField && detail.contains(expected),
            "{detail}"
        );
    }
    ensure!(sink.stats().snapshot().worker_failures == 0);
    Ok(())
}

#[test]
fn a_dimension_file_that_is_too_long_is_refused_unread() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let mut sink = ButlerSink::new("site", small(site)?, Box::new(NoHistory))?;
    let path = site.folder.join(format!("long-{}.yaml", next()));
    // Two terabytes on disk would need as many in memory; this one takes no block.
    fs::File::create(&path)?.set_len(2 << 40)?;
    let settled = sink.deliver(vec![request(Kind::DimFile, &path.display().to_string())]);
    let (reason, detail) = refusal(&settled[0])?;
    ensure!(
        reason == Reason::BadField && detail.contains("more than the 67108864 bytes"),
        "{detail}"
    );
    ensure!(sink.stats().snapshot().worker_failures == 0);
    Ok(())
}

#[test]
fn keys_that_are_no_values_are_refused_before_they_are_written_out() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let mut sink = ButlerSink::new("site", small(site)?, Box::new(NoHistory))?;
    let path = site.folder.join(format!("laughs-{}.yaml", next()));
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let of = format!("*a{}", n - 1);
        text += &format!("a{n}: &a{n} [{}]\n", vec![of; 9].join(", "));
    }
    text += "data:\n- {type: dimension, element: instrument, records: [{name: *a11}]}\n";
    fs::write(&path, text)?;
    let settled = sink.deliver(vec![request(Kind::DimFile, &path.display().to_string())]);
    let (reason, detail) = refusal(&settled[0])?;
    ensure!(
        reason == Reason::BadField && detail.contains("neither a number nor text"),
        "{detail}"
    );
    Ok(())
}

#[test]
fn a_file_that_needs_more_memory_than_the_worker_may_have_is_found_and_refused() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let mut sink = ButlerSink::new("site", small(site)?, Box::new(NoHistory))?;
    let path = site.folder.join(format!("greedy-{}.yaml", next()));
    let mut file = std::io::BufWriter::new(fs::File::create(&path)?);
    file.write_all(b"data: [")?;
    for _ in 0..6_000_000 {
        file.write_all(b"a,")?;
    }
    file.write_all(b"a]\n")?;
    file.flush()?;
    let good = site.products(&new_run("greedy"), 3)?;
    let mut batch = requests(&good);
    batch.insert(1, request(Kind::DimFile, &path.display().to_string()));
    let settled = in_order(&batch, sink.deliver(batch.clone()));
    let (reason, detail) = refusal(&settled[1])?;
    ensure!(reason == Reason::Butler, "{detail}");
    for part in [path.to_str().context("a path")?, "512 MiB", "worker.memory_mib"] {
        ensure!(detail.contains(part), "{detail}");
    }
    ensure!(words(&settled).iter().filter(|word| **word == "ingested").count() == 3);
    site.assert_registered(&good)
}

#[test]
fn output_without_end_is_cut() -> Result<()> {
    let site = &mut *shared(Database::Sqlite)?;
    let batch = requests(&site.products(&new_run("endless"), 1)?);
    for (code, expected) in [
        ("yes | tr -d '\\n'", "longer than 67108864 bytes"),
        (
            "yes | tr -d '\\n' | head -c 300000000 >&2; exit 3",
            "exit status: 3",
        ),
        // Answers that nobody asked for.
        ("yes '{\"proto\": 99}'", "version 99"),
    ] {
        let mut settings = settings(&site.root)?;
        settings.worker.command = ["sh", "-c", code].map(String::from).into();
        let mut sink = ButlerSink::new("site", settings, Box::new(NoHistory))?;
        ensure!(words(&sink.deliver(batch.clone())) == ["waiting"]);
        let trouble = sink.stats().snapshot().trouble;
        ensure!(
            trouble.contains(expected),
            "{code}: {}",
            &trouble[..trouble.len().min(300)]
        );
        ensure!(trouble.len() < 200_000);
    }
    Ok(())
}
