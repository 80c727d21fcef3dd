//! Reference: what every view is, for people and for programs, and the page that is written from it.

mod meanings;

use super::{
    View, ViewRow, attempts::Attempts, dataset_progress::DatasetProgress, failures::Failures,
    ingest_backlog::IngestBacklog, lost_files::LostFile, placement::Placement, placement::PlacementGap,
    rse_usage::RseUsage, rules::Rule, site_completeness::SiteCompleteness, site_outcomes::SiteOutcomeRow,
    stream_health::StreamHealth, transfers::Transfers,
};
use crate::replicas;
use arrow::datatypes::{DataType, SchemaRef};
use std::fmt::Write as _;

/// What a view is.
#[derive(Debug, Clone)]
pub struct Described {
    /// Its name, what a row means, and what it costs.
    pub view: View,
    /// Its columns.
    pub schema: SchemaRef,
}

impl Described {
    fn of<R: ViewRow>() -> Self {
        Self {
            view: R::VIEW,
            schema: R::schema(),
        }
    }

    /// What a column holds; empty for one that it does not have.
    pub fn meaning(&self, column: &str) -> &'static str {
        meanings::meaning(self.view.name, column).unwrap_or_default()
    }
}

/// All views, those of most use first.
pub fn all() -> Vec<Described> {
    vec![
        Described {
            view: replicas::VIEW,
            schema: replicas::schema(),
        },
        Described::of::<RseUsage>(),
        Described::of::<Placement>(),
        Described::of::<PlacementGap>(),
        Described::of::<DatasetProgress>(),
        Described::of::<Transfers>(),
        Described::of::<Failures>(),
        Described::of::<LostFile>(),
        Described::of::<Rule>(),
        Described::of::<IngestBacklog>(),
        Described::of::<Attempts>(),
        Described::of::<SiteOutcomeRow>(),
        Described::of::<SiteCompleteness>(),
        Described::of::<StreamHealth>(),
    ]
}

/// The reference of all views, in Markdown: `docs/views.md`.
pub fn markdown() -> String {
    let mut page = include_str!("reference/introduction.md").to_owned();
    let views = all();
    page.push_str("\n| view | one row is |\n|---|---|\n");
    // A string cannot fail to take more.
    for Described { view, .. } in &views {
        let _ = writeln!(page, "| [`{0}`](#{0}) | {1} |", view.name, view.meaning);
    }
    for described in &views {
        let View { name, meaning, cost } = described.view;
        let _ = write!(page, "\n## {name}\n\n{meaning}\n\n**Cost**: {cost}\n\n");
        page.push_str("| column | type | meaning |\n|---|---|---|\n");
        for field in described.schema.fields() {
            let null = if field.is_nullable() { ", or null" } else { "" };
            let (column, sql) = (field.name(), sql_type(field.data_type()));
            let _ = writeln!(
                page,
                "| `{column}` | {sql}{null} | {} |",
                described.meaning(column)
            );
        }
    }
    page
}

/// The type as SQL knows it.
fn sql_type(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Utf8 => "text",
        DataType::Int32 => "integer",
        DataType::Int64 => "bigint",
        DataType::Float64 => "double precision",
        DataType::Timestamp(..) => "timestamptz",
        _ => "value",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::collections::BTreeSet;

    /// `UPDATE_DOCS=1 cargo test -p dbb-operators` writes the page.
    #[test]
    fn the_page_of_views_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/views.md");
        let page = markdown();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == page,
            "docs/views.md is stale: run UPDATE_DOCS=1 cargo test -p dbb-operators"
        );
    }

    #[test]
    fn every_view_and_every_column_says_what_it_means() {
        let mut names = BTreeSet::new();
        for described in all() {
            let View { name, meaning, cost } = described.view;
            assert!(names.insert(name), "two views are called {name}");
            for text in [meaning, cost] {
                assert!(text.ends_with('.') && !text.contains("  "), "{name}: {text}");
            }
            for field in described.schema.fields() {
                let (column, meaning) = (field.name(), described.meaning(field.name()));
                assert!(!meaning.is_empty(), "{name}.{column} has no meaning");
                assert!(!meaning.contains('|'), "{name}.{column} breaks the table");
                assert_ne!(sql_type(field.data_type()), "value", "{name}.{column}");
            }
        }
    }

    #[test]
    fn no_meaning_is_of_a_column_that_is_not() {
        let columns: BTreeSet<(&str, String)> = all()
            .into_iter()
            .flat_map(|described| {
                let fields = described.schema.fields().clone();
                let names: Vec<_> = fields.iter().map(|field| field.name().clone()).collect();
                names.into_iter().map(move |column| (described.view.name, column))
            })
            .collect();
        for (view, column) in meanings::named() {
            let is_column = match view {
                "" => columns.iter().any(|(_, known)| known == column),
                view => columns.contains(&(view, column.to_owned())),
            };
            assert!(is_column, "{view}.{column} is no column");
        }
    }
}
