//! Statements, as the engine answers them.

use crate::shared::{Numbers, published};
use arrow::util::pretty::pretty_format_batches;
use dbb_serving::sql::Engine;
use std::sync::Arc;

#[test]
fn a_question_about_one_epoch_is_answered() {
    let epoch = published(3, vec![("numbers", Arc::new(Numbers::new(0, 2500)))]);
    let sql = "select name, count(*) as c, max(n) as m from numbers where name = 'name-3' group by name";
    let (schema, batches) = Engine::run_once(sql, epoch).unwrap();
    assert_eq!(schema.fields().len(), 3);
    let table = pretty_format_batches(&batches).unwrap().to_string();
    assert!(table.contains("| name-3 | 250 | 2493 |"), "{table}");
}

#[test]
fn as_of_tells_the_epoch_its_time_and_its_offsets() {
    let epoch = published(3, vec![("numbers", Arc::new(Numbers::new(0, 1)))]);
    let (_, batches) = Engine::run_once("select * from as_of()", epoch).unwrap();
    let table = pretty_format_batches(&batches).unwrap().to_string();
    assert!(
        table.contains("| 3     | 2023-11-14T22:13:20.000003Z | events | 0         | 10          |"),
        "{table}"
    );
}
