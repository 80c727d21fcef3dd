//! Where the replicas of a file are, and what that is known from: asked from the instance that runs.

use crate::{
    cli::{
        ask::{self, Answered},
        exit, output,
        rows::shown,
    },
    config::Config,
    views::Name,
};
use dbb_events::Did;
use serde_json::{Value, json};
use std::fmt;

/// The columns asked for.
const COLUMNS: &str = "rse, state, bytes, adler32, basis, updated_at";

/// What was found.
#[derive(Debug)]
pub(super) enum Found {
    /// The replicas, perhaps none.
    Replicas(Answered),
    /// Nobody could be asked, and why.
    Unknown(String),
}

/// Asks for the replicas of `did`.
pub(super) fn find(config: &Config, did: &Did) -> Found {
    let keeps = config
        .views
        .names()
        .is_ok_and(|names| names.contains(&Name::Replicas));
    if !keeps || !ask::is_served(config) {
        return Found::Unknown("this configuration keeps no view `replicas` or serves no SQL".into());
    }
    let text = |text: &str| text.replace('\'', "''");
    let statement = format!(
        "select {COLUMNS} from replicas where scope = '{}' and name = '{}' order by rse",
        text(&did.scope),
        text(&did.name)
    );
    match ask::ask(config, None, &statement) {
        Ok(answered) => Found::Replicas(answered),
        Err(error) => Found::Unknown(first_line(&error)),
    }
}

fn first_line(error: &anyhow::Error) -> String {
    let message = exit::message(error);
    let line = message.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

impl Found {
    /// True when no replica is known.
    pub(super) fn is_nothing(&self) -> bool {
        match self {
            Found::Replicas(answered) => answered.rows.is_empty(),
            Found::Unknown(_) => true,
        }
    }

    /// Puts them into the story in JSON: null, with the reason beside it, where nobody could be asked.
    pub(super) fn add_to(&self, story: &mut Value) {
        match self {
            Found::Replicas(answered) => story["replicas"] = json!(crate::cli::sql::objects(answered)),
            Found::Unknown(why) => {
                story["replicas"] = Value::Null;
                story["replicas_unknown"] = json!(why);
            }
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Unknown(why) => writeln!(f, "replicas: not known: {}", shown(why)),
            Found::Replicas(answered) if answered.rows.is_empty() => {
                writeln!(f, "replicas: none that the views know of")
            }
            Found::Replicas(answered) => {
                let cell = |cell: &Option<String>| shown(cell.as_deref().unwrap_or_default());
                let rows = answered.rows.iter().map(|row| row.iter().map(cell).collect());
                let header: Vec<&str> = answered
                    .columns
                    .iter()
                    .map(|column| column.name.as_str())
                    .collect();
                write!(f, "replicas:\n{}", output::table(&header, rows, &[2]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ask::{Column, Kind};

    #[test]
    fn every_replica_has_its_state_and_what_it_is_known_from() {
        let column = |name: &&str| Column {
            name: (*name).into(),
            kind: Kind::Text,
        };
        let row = ["A_DISK", "AVAILABLE", "12", "0a", "event", "2026-11-21 20:00:00"];
        let found = Found::Replicas(Answered {
            columns: COLUMNS
                .split(", ")
                .collect::<Vec<_>>()
                .iter()
                .map(column)
                .collect(),
            rows: vec![row.iter().map(|cell| Some((*cell).into())).collect()],
        });
        assert_eq!(
            found.to_string(),
            "replicas:\nrse     state      bytes  adler32  basis  updated_at\n\
             A_DISK  AVAILABLE     12  0a       event  2026-11-21 20:00:00\n"
        );
    }

    #[test]
    fn without_views_it_says_so() {
        let found = find(&Config::default(), &Did::new("raw", "a"));
        assert!(
            found
                .to_string()
                .starts_with("replicas: not known: this configuration keeps no view")
        );
        assert!(found.is_nothing());
    }
}
