//! What can be asked for: each view by name, what it means, what it costs, and its columns.

use arrow::datatypes::SchemaRef;
use dbb_operators::{
    publish::Published,
    views::{View, ViewRow},
};

/// A view that is offered, whether anything of it is published yet or not.
#[derive(Debug, Clone)]
pub struct Offered {
    /// What it is.
    pub view: View,
    /// Its columns.
    pub schema: SchemaRef,
}

impl Offered {
    /// The view of these rows.
    pub fn of<R: ViewRow>() -> Self {
        Self {
            view: R::VIEW,
            schema: R::schema(),
        }
    }

    /// All that is in `published`, of which only names and columns are known.
    pub fn in_published(published: &Published) -> Vec<Self> {
        let offered =
            |(name, table): (&&'static str, &std::sync::Arc<dyn dbb_operators::views::Table>)| Self {
                view: View {
                    name,
                    meaning: "",
                    cost: "",
                },
                schema: table.schema(),
            };
        published.tables.iter().map(offered).collect()
    }
}
