//! `dbb sql CONFIG 'select ...'`: asks a running instance, and prints what it answers.

use super::{
    ConfigFile, Exit,
    ask::{self, Answered, Kind},
    output, rows,
};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

/// Arguments of `dbb sql`.
#[derive(Debug, Args)]
pub struct SqlArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// The statement: `select rse, state, files from rse_usage`
    statement: String,
    /// How to print the answer
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The user, one of `sql.users`; the first without it
    #[arg(long, env = "DBB_SQL_USER")]
    user: Option<String>,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns
    Table,
    /// Comma-separated, with a header
    Csv,
    /// A list of objects
    Json,
}

/// Asks and prints.
pub(super) fn sql(args: &SqlArgs) -> anyhow::Result<Exit> {
    let config = args.file.load()?.config;
    let answered = ask::ask(&config, args.user.as_deref(), &args.statement)?;
    match args.format {
        Format::Table => output::print(&table(&answered))?,
        Format::Csv => output::print(&csv(&answered))?,
        Format::Json => output::json(&objects(&answered))?,
    }
    Ok(Exit::Ok)
}

fn table(answered: &Answered) -> String {
    let header: Vec<&str> = answered
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    let numbers: Vec<usize> = (0..answered.columns.len())
        .filter(|at| answered.columns[*at].kind == Kind::Number)
        .collect();
    let shown = answered.rows.iter().map(|row| {
        row.iter()
            .map(|cell| cell.as_deref().map(rows::shown).unwrap_or_default())
            .collect()
    });
    output::table(&header, shown, &numbers)
}

fn csv(answered: &Answered) -> String {
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells.map(quoted).collect();
        text.push_str(&cells.join(","));
        text.push('\n');
    };
    line(&mut answered.columns.iter().map(|column| column.name.as_str()));
    for row in &answered.rows {
        line(&mut row.iter().map(|cell| cell.as_deref().unwrap_or_default()));
    }
    text
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// The rows as objects.
pub(super) fn objects(answered: &Answered) -> Vec<Value> {
    let object = |row: &Vec<Option<String>>| {
        let cells = answered.columns.iter().zip(row);
        let object: Map<String, Value> = cells
            .map(|(column, cell)| (column.name.clone(), value(column.kind, cell.as_deref())))
            .collect();
        Value::Object(object)
    };
    answered.rows.iter().map(object).collect()
}

fn value(kind: Kind, cell: Option<&str>) -> Value {
    let Some(cell) = cell else { return Value::Null };
    match kind {
        Kind::Truth => Value::Bool(cell == "t" || cell == "true"),
        // Infinities and the like are no numbers in JSON.
        Kind::Number => serde_json::from_str(cell).unwrap_or_else(|_| cell.into()),
        Kind::Text => cell.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ask::Column;

    fn answered() -> Answered {
        let column = |name: &str, kind| Column {
            name: name.into(),
            kind,
        };
        Answered {
            columns: vec![
                column("rse", Kind::Text),
                column("files", Kind::Number),
                column("ok", Kind::Truth),
            ],
            rows: vec![
                vec![Some("A_DISK".into()), Some("7".into()), Some("t".into())],
                vec![Some("say \"x\", y".into()), Some("1200".into()), None],
            ],
        }
    }

    #[test]
    fn numbers_are_aligned_to_the_right() {
        assert_eq!(
            table(&answered()),
            "rse         files  ok\nA_DISK          7  t\nsay \"x\", y   1200\n"
        );
    }

    #[test]
    fn a_cell_with_a_comma_is_quoted_in_csv() {
        assert_eq!(
            csv(&answered()),
            "rse,files,ok\nA_DISK,7,t\n\"say \"\"x\"\", y\",1200,\n"
        );
    }

    #[test]
    fn numbers_are_numbers_in_json_and_what_is_not_there_is_null() {
        assert_eq!(
            serde_json::Value::from(objects(&answered())).to_string(),
            r#"[{"files":7,"ok":true,"rse":"A_DISK"},{"files":1200,"ok":null,"rse":"say \"x\", y"}]"#
        );
    }
}
