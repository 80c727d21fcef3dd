//! Bad files among good ones: each gets its own answer, and the good are registered.

use crate::harness::*;
use anyhow::{Result, ensure};
use dbb_events::{Kind, Reason};
use dbb_sinks::{
    Sink,
    butler::{ButlerSink, NoHistory},
};
use serde_json::json;

on_both! {
    fn what_can_be_seen_beforehand_costs_no_call(site) {
        let run = new_run("offenders");
        let good = site.products(&run, 10)?;
        let tagged = new_run("tagged");
        site.helper.ask(json!({"op": "tagged", "root": site.root, "name": tagged}))?;
        // Every bad one has a data id that no good one has.
        let bad = |detector: u64| site.product(&run, 15, detector);
        let mut wrong_size = bad(0)?;
        wrong_size.bytes = Some(6);
        let mut missing = bad(1)?;
        missing.uri = "/nowhere/at/all".into();
        let no_record = site.product(&run, 88_888, 2)?;
        let mut only_required = site.product(&run, 88_889, 3)?;
        only_required.data_id = json!({"instrument": "FakeCam", "detector": 3, "visit": 88_889});
        let mut no_camera = bad(4)?;
        no_camera.data_id["instrument"] = json!("NoCam");
        let mut storage_class = bad(5)?;
        storage_class.dataset_type = "never_seen".into();
        storage_class.storage_class = "NoSuchClass".into();
        let mut other_class = bad(6)?;
        other_class.storage_class = "ArrowAstropy".into();
        let mut other_dimensions = bad(7)?;
        other_dimensions.dimensions = vec!["instrument", "visit"];
        other_dimensions.data_id = json!({"instrument": "FakeCam", "visit": 15});
        let mut tagged_run = bad(8)?;
        tagged_run.run = tagged;
        let mut unknown_dimension = bad(9)?;
        unknown_dimension.dimensions = vec!["instrument", "phase_of_the_moon"];
        let mut truncated = site.product(&run, 16, 0)?.request();
        truncated.sidecar = truncated.sidecar[..50].into();
        let mut empty = site.product(&run, 16, 1)?.request();
        empty.sidecar = "".into();
        let mut only_id = site.product(&run, 16, 2)?;
        only_id.uuid = uuid::Uuid::nil();
        let mut only_id = only_id.request();
        only_id.sidecar = json!({"id": uuid::Uuid::nil()}).to_string().into();

        let mut batch = requests(&good);
        batch.extend(requests(&[
            wrong_size, missing, no_record, only_required, no_camera, storage_class, other_class,
            other_dimensions, tagged_run, unknown_dimension,
        ]));
        batch.extend([truncated, empty, only_id]);
        // Good and bad in turns.
        batch.rotate_left(5);
        let calls = site.stats().butler_calls;
        let mut settled = site.deliver(batch);
        settled.rotate_right(5);
        ensure!(site.stats().butler_calls == calls + 1);
        ensure!(words(&settled[..10]) == ["ingested"; 10]);
        site.assert_registered(&good)?;

        let bad = &settled[10..];
        ensure!(refusal(&bad[0])?.0 == Reason::SizeMismatch);
        ensure!(waits_for(&bad[1])? == "file:/nowhere/at/all");
        ensure!(waits_for(&bad[2])? == "dimension:visit/FakeCam/88888");
        ensure!(waits_for(&bad[3])? == "dimension:visit/FakeCam/88889");
        ensure!(waits_for(&bad[4])? == "dimension:instrument/NoCam");
        ensure!(refusal(&bad[5])?.0 == Reason::Butler && refusal(&bad[5])?.1.contains("NoSuchClass"));
        ensure!(refusal(&bad[6])?.0 == Reason::Conflict && refusal(&bad[6])?.1.contains("ArrowAstropy"));
        ensure!(refusal(&bad[7])?.0 == Reason::Conflict);
        ensure!(refusal(&bad[8])?.0 == Reason::Conflict && refusal(&bad[8])?.1.contains("TAGGED"));
        for answer in &bad[9..] {
            ensure!(refusal(answer)?.0 == Reason::BadSidecar, "{answer:?}");
        }
        Ok(())
    }

    fn two_different_files_for_one_dataset_are_ambiguous_and_the_first_wins(site) {
        let run = new_run("ambiguous");
        let first = site.products(&run, 3)?;
        let mut same_uuid = first[0].clone();
        same_uuid.uri = site.file()?;
        let mut same_uuid_other_data_id = site.product(&run, 17, 1)?;
        same_uuid_other_data_id.uuid = first[1].uuid;
        let mut same_data_id = first[2].clone();
        same_data_id.uuid = uuid::Uuid::from_u128(u128::from(next()) << 64 | 1);
        same_data_id.uri = site.file()?;
        let mut batch = requests(&first);
        batch.extend(requests(&[same_uuid.clone(), same_uuid_other_data_id, same_data_id]));
        // The same file once more is no offence.
        batch.push(first[0].request());
        let calls = site.stats().butler_calls;
        let settled = site.deliver(batch);
        ensure!(site.stats().butler_calls == calls + 1);
        ensure!(words(&settled[..3]) == ["ingested"; 3]);
        for answer in &settled[3..6] {
            ensure!(refusal(answer)?.0 == Reason::Ambiguous);
        }
        ensure!(refusal(&settled[3])?.1.contains(&first[0].uri) && refusal(&settled[3])?.1.contains(&same_uuid.uri));
        ensure!(settled[6].outcome.as_str() == "ingested");
        site.assert_registered(&first)
    }

    fn what_the_repository_has_otherwise_is_a_conflict_that_names_both(site) {
        let run = new_run("conflict");
        let there = site.products(&run, 20)?;
        site.deliver(requests(&there));
        let mut batch = Vec::new();
        for dataset in &there[..10] {
            // Another UUID in its place: ten at once, in one failed call.
            batch.push(site.product(&run, dataset.data_id["visit"].as_u64().unwrap_or(0), dataset.data_id["detector"].as_u64().unwrap_or(0))?);
        }
        let mut other_run = there[10].clone();
        other_run.run = new_run("conflict");
        let mut other_data_id = there[11].clone();
        other_data_id.data_id["visit"] = json!(9);
        batch.extend([other_run, other_data_id]);
        let good = site.product(&run, 18, 8)?;
        batch.push(good.clone());
        let calls = site.stats().butler_calls;
        let settled = site.deliver(requests(&batch));
        ensure!(site.stats().butler_calls <= calls + 2);
        for (answer, dataset) in settled[..12].iter().zip(&there) {
            let (reason, detail) = refusal(answer)?;
            ensure!(reason == Reason::Conflict && detail.contains(&dataset.uuid.to_string()), "{detail}");
        }
        ensure!(refusal(&settled[0])?.1.contains(&batch[0].uuid.to_string()));
        ensure!(words(&settled[12..]) == ["ingested"]);
        site.assert_registered(&[good])?;
        site.assert_registered(&there)
    }

    fn one_that_nothing_names_costs_at_most_eight_more_calls(site) {
        let run = new_run("halving");
        for position in [0, 37, 99] {
            let datasets = site.products(&format!("{run}/{position}"), 100)?;
            let bad = datasets[position].uuid.simple().to_string();
            refuse_uuid(site, &bad)?;
            let calls = site.stats().butler_calls;
            let settled = site.deliver(requests(&datasets));
            let calls = site.stats().butler_calls - calls;
            ensure!(calls <= 1 + 8, "{calls} calls");
            let (reason, detail) = refusal(&settled[position])?;
            ensure!(reason == Reason::Butler && detail.contains("the trigger says no"), "{detail}");
            ensure!(words(&settled).iter().filter(|word| **word == "ingested").count() == 99);
            let mut good = datasets.clone();
            let bad = good.remove(position);
            site.assert_registered(&good)?;
            site.assert_absent(&[bad])?;
        }
        Ok(())
    }

    fn several_that_nothing_names_leave_the_others_registered(site) {
        let datasets = site.products(&new_run("halving"), 64)?;
        for position in [3, 4, 50] {
            refuse_uuid(site, &datasets[position].uuid.simple().to_string())?;
        }
        let settled = site.deliver(requests(&datasets));
        for (position, answer) in settled.iter().enumerate() {
            let expected = if [3, 4, 50].contains(&position) { "refused" } else { "ingested" };
            ensure!(answer.outcome.as_str() == expected, "{position}: {answer:?}");
        }
        Ok(())
    }

    fn a_formatter_that_cannot_be_imported_is_the_environments_fault(site) {
        let run = new_run("formatter");
        let good = site.products(&run, 20)?;
        let mut science = site.product(&run, 19, 1)?;
        science.dataset_type = format!("science_{}", next());
        science.storage_class = "ExposureF".into();
        let mut batch = requests(&good);
        batch.insert(7, science.request());
        let settled = site.deliver(batch);
        ensure!(refusal(&settled[7])?.0 == Reason::Environment, "{:?}", settled[7]);
        ensure!(words(&settled).iter().filter(|word| **word == "ingested").count() == 20);
        site.assert_registered(&good)
    }

    fn a_record_that_was_removed_after_it_was_seen_is_waited_for(site) {
        let visit = 70_000 + next();
        let key = format!("dimension:visit/FakeCam/{visit}");
        let run = new_run("removed");
        // A dimension file brings it, the worker remembers it, somebody removes it.
        let yaml = site.folder.join(format!("{visit}_dimensions.yaml")).display().to_string();
        site.helper.ask(json!({"op": "export", "path": yaml, "visits": [visit]}))?;
        let settled = site.deliver(vec![request(Kind::DimFile, &yaml)]);
        ensure!(settled[0].outcome.as_str() == "ingested" && settled[0].provides.contains(&key.as_str().into()));
        site.sql(&[format!("DELETE FROM visit WHERE id = {visit}")])?;
        let mut datasets = site.products(&run, 20)?;
        datasets[11].data_id["visit"] = json!(visit);
        let settled = site.deliver(requests(&datasets));
        ensure!(waits_for(&settled[11])? == key);
        ensure!(words(&settled).iter().filter(|word| **word == "ingested").count() == 19);
        // It comes back, and all is well.
        site.deliver(vec![request(Kind::DimFile, &yaml)]);
        ensure!(words(&site.deliver(requests(&datasets[11..12]))) == ["ingested"]);
        site.assert_registered(&datasets)
    }

    fn only_what_is_on_the_allow_list_is_registered(site) {
        let run = new_run("allowed");
        let mut settings = settings(&site.root)?;
        settings.allow.dataset_types = Some(vec!["prev*".into()]);
        settings.allow.runs = Some(vec![format!("re:{run}(/.*)?")]);
        let mut sink = ButlerSink::new("site", settings, Box::new(NoHistory))?;
        let good = site.product(&format!("{run}/x"), 1, 1)?;
        let mut other_type = site.product(&run, 1, 2)?;
        other_type.dataset_type = "secret".into();
        let other_run = site.product("somewhere/else", 1, 3)?;
        let batch = requests(&[good, other_type, other_run]);
        let settled = in_order(&batch, sink.deliver(batch.clone()));
        ensure!(words(&settled) == ["ingested", "refused", "refused"], "{settled:?}");
        ensure!(refusal(&settled[1])? == (Reason::NotAllowed, "dataset type secret is not on the allow-list"));
        ensure!(refusal(&settled[2])? == (Reason::NotAllowed, "RUN somewhere/else is not on the allow-list"));
        Ok(())
    }
}

/// Makes the database itself refuse this UUID, which no look beforehand can tell.
fn refuse_uuid(site: &mut Site, hex: &str) -> Result<()> {
    let statements = match site.database {
        Database::Sqlite => vec![format!(
            "CREATE TRIGGER no_{hex} BEFORE INSERT ON dataset \
             WHEN lower(hex(NEW.id)) = '{hex}' OR lower(replace(NEW.id, '-', '')) = '{hex}' \
             BEGIN SELECT RAISE(ABORT, 'the trigger says no'); END"
        )],
        Database::Postgres => vec![
            format!(
                "CREATE FUNCTION no_{hex}() RETURNS trigger AS $$ BEGIN \
                 RAISE EXCEPTION USING ERRCODE = '22000', MESSAGE = 'the trigger says no'; END $$ LANGUAGE plpgsql"
            ),
            format!(
                "CREATE TRIGGER no_{hex} BEFORE INSERT ON dataset FOR EACH ROW \
                 WHEN (replace(NEW.id::text, '-', '') = '{hex}') EXECUTE FUNCTION no_{hex}()"
            ),
        ],
    };
    site.sql(&statements)
}
