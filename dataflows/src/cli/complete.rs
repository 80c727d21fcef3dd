//! `dbb complete CONFIG SCOPE:DATASET --rse R`: is all of a Rucio dataset at an RSE, and in the Butlers of its site?
//!
//! It asks the instance that runs, where sites' outcomes and listings of contents come together.

use super::{
    ConfigFile, Exit,
    ask::{self, Answered},
    exit::{self, Told},
    output, sql,
};
use crate::{config::Config, views::Name};
use clap::Args;
use std::{
    thread,
    time::{Duration, Instant},
};

/// From one question to the next, while waiting.
const EVERY: Duration = Duration::from_secs(1);

/// Arguments of `dbb complete`.
#[derive(Debug, Args)]
pub struct CompleteArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// The Rucio dataset, `SCOPE:NAME`
    dataset: String,
    /// The RSE
    #[arg(long)]
    rse: String,
    /// Return only when it is complete
    #[arg(long)]
    wait: bool,
    /// Longest to wait, in seconds; for ever if not given
    #[arg(long, requires = "wait", value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// What the view says of the dataset.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Complete,
    Incomplete,
    Unknown,
}

/// Asks, once or until the answer is yes.
pub(super) fn complete(args: &CompleteArgs) -> anyhow::Result<Exit> {
    let config = args.file.load()?.config;
    let statement = statement(args)?;
    keeps_the_view(&config)?;
    let begun = Instant::now();
    let patience = args.timeout.map(Duration::from_secs);
    loop {
        let is_over = !args.wait || patience.is_some_and(|patience| begun.elapsed() >= patience);
        match ask::ask(&config, None, &statement) {
            Ok(answered) => {
                let told = told(&answered);
                if told == Answer::Complete || is_over {
                    print(args, &answered, &told)?;
                    return Ok(told.exit());
                }
            }
            // An instance that is started again answers soon.
            Err(error) if !is_over && Exit::of(&error) == Exit::Unreachable => {
                tracing::info!("{}, asking again", exit::message(&error).trim_end());
            }
            Err(error) => return Err(error),
        }
        thread::sleep(EVERY);
    }
}

fn keeps_the_view(config: &Config) -> anyhow::Result<()> {
    let keeps = config
        .views
        .names()
        .is_ok_and(|names| names.contains(&Name::SiteOutcomes));
    if keeps {
        return Ok(());
    }
    let hint = "add `site_outcomes` to views.keep, `source.listings` for the contents of Rucio datasets, and the topics of outcomes to the source";
    Err(Told::new(
        Exit::Configuration,
        "this configuration keeps no view `site_outcomes`",
        hint,
    )
    .into())
}

fn statement(args: &CompleteArgs) -> anyhow::Result<String> {
    let Some((scope, name)) = args.dataset.split_once(':') else {
        let message = format!("`{}` is no Rucio dataset", args.dataset);
        return Err(Told::new(Exit::Usage, message, "write it as SCOPE:NAME").into());
    };
    let quoted = |text: &str| text.replace('\'', "''");
    Ok(format!(
        "select rse, members, available, ingested, waiting, refused, complete, contents_at from site_completeness \
         where scope = '{}' and name = '{}' and rse in ('', '{}') order by rse desc",
        quoted(scope),
        quoted(name),
        quoted(&args.rse)
    ))
}

/// The row of the RSE comes first; where there is none, nothing of the dataset is there.
fn told(answered: &Answered) -> Answer {
    let Some(first) = answered.rows.first() else {
        return Answer::Unknown;
    };
    let complete = answered
        .columns
        .iter()
        .position(|column| column.name == "complete");
    match complete.and_then(|at| first.get(at)?.as_deref()) {
        Some("complete") => Answer::Complete,
        Some("incomplete") => Answer::Incomplete,
        _ => Answer::Unknown,
    }
}

impl Answer {
    fn exit(&self) -> Exit {
        match self {
            Self::Complete => Exit::Ok,
            Self::Incomplete => Exit::Problems,
            Self::Unknown => Exit::Unknown,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
            Self::Unknown => "unknown",
        }
    }
}

fn print(args: &CompleteArgs, answered: &Answered, told: &Answer) -> anyhow::Result<()> {
    let row = sql::objects(answered).into_iter().next().unwrap_or_default();
    let cell = |name: &str| row.get(name).cloned().unwrap_or_default();
    if args.json {
        let (scope, name) = args.dataset.split_once(':').unwrap_or_default();
        return output::json(&serde_json::json!({
            "scope": scope,
            "name": name,
            "rse": args.rse,
            "complete": told.word(),
            "members": cell("members"),
            "available": cell("available"),
            "ingested": cell("ingested"),
            "waiting": cell("waiting"),
            "refused": cell("refused"),
            "contents_at": cell("contents_at"),
        }));
    }
    let CompleteArgs { dataset, rse, .. } = args;
    if *told == Answer::Unknown {
        return output::print(&format!(
            "{dataset} at {rse}: unknown\n  no listing says what is in this Rucio dataset\n"
        ));
    }
    let text = |name: &str| match cell(name) {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    output::print(&format!(
        "{dataset} at {rse}: {}\n  members {} (listed {}), AVAILABLE {}, ingested {}, waiting {}, refused {}\n",
        told.word(),
        text("members"),
        text("contents_at"),
        text("available"),
        text("ingested"),
        text("waiting"),
        text("refused"),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::ask::{Column, Kind};

    fn answered(rows: &[(&str, &str)]) -> Answered {
        let column = |name: &str| Column {
            name: name.into(),
            kind: Kind::Text,
        };
        Answered {
            columns: vec![column("rse"), column("complete")],
            rows: rows
                .iter()
                .map(|(rse, complete)| vec![Some((*rse).into()), Some((*complete).into())])
                .collect(),
        }
    }

    #[test]
    fn without_a_listing_nothing_is_known() {
        assert_eq!(told(&answered(&[])).exit().status(), 3);
        assert_eq!(told(&answered(&[("", "incomplete")])).exit().status(), 1);
        let both = [("A_DISK", "complete"), ("", "incomplete")];
        assert_eq!(told(&answered(&both)).exit().status(), 0);
    }

    #[test]
    fn a_name_with_a_quote_stays_a_name() {
        let args = CompleteArgs {
            file: ConfigFile {
                config: "x".into(),
                set: Vec::new(),
            },
            dataset: "raw:it's".into(),
            rse: "A'".into(),
            wait: false,
            timeout: None,
            json: false,
        };
        let statement = statement(&args).unwrap();
        assert!(
            statement.contains("name = 'it''s' and rse in ('', 'A''')"),
            "{statement}"
        );
    }
}
