//! Published views as tables that can be planned and scanned.
//!
//! ```text
//!   pinned epoch --> tables by name --> scan: columns and `text = 'value'` pushed down --> batches, one at a time
//! ```

use super::SqlError;
use crate::Offered;
use arrow::{
    array::RecordBatch,
    datatypes::{DataType, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{SchemaProvider, Session, TableProvider},
    common::{Statistics, stats::Precision, tree_node::TreeNodeRecursion},
    error::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
        execution_plan::{Boundedness, EmissionType},
        statistics::StatisticsArgs,
        stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter},
    },
};
use dbb_operators::{
    publish::Published,
    views::{Batches, Scan, Table},
};
use std::{fmt, sync::Arc};

/// Batches of others that may come before they are taken.
const AHEAD: usize = 2;

/// The views of one epoch; those that are offered but not in it have columns and cannot be read.
pub(super) struct Pinned {
    pub(super) published: Option<Arc<Published>>,
    pub(super) offered: Arc<[Offered]>,
}

impl Pinned {
    fn find(&self, name: &str) -> Option<PinnedTable> {
        let published = self.published.as_ref().and_then(|p| p.tables.get(name));
        let schema = match published {
            Some(table) => table.schema(),
            None => {
                let offered = self.offered.iter().find(|offered| offered.view.name == name)?;
                Arc::clone(&offered.schema)
            }
        };
        Some(PinnedTable {
            name: name.to_owned(),
            schema,
            table: published.cloned(),
        })
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epoch = self.published.as_ref().map(|published| published.epoch);
        f.debug_struct("Pinned")
            .field("epoch", &epoch)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SchemaProvider for Pinned {
    fn table_names(&self) -> Vec<String> {
        let offered = self.offered.iter().map(|offered| offered.view.name);
        let published = self
            .published
            .iter()
            .flat_map(|published| published.tables.keys().copied());
        let names: std::collections::BTreeSet<&str> = offered.chain(published).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self
            .find(name)
            .map(|table| Arc::new(table) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}

/// One view of the pinned epoch.
struct PinnedTable {
    name: String,
    schema: SchemaRef,
    table: Option<Arc<dyn Table>>,
}

impl fmt::Debug for PinnedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PinnedTable").field(&self.name).finish()
    }
}

/// `column = 'text'`, either way round, of a column of text.
fn equality(filter: &Expr, schema: &SchemaRef) -> Option<(String, String)> {
    let Expr::BinaryExpr(BinaryExpr {
        left,
        op: Operator::Eq,
        right,
    }) = filter
    else {
        return None;
    };
    let (column, value) = match (&**left, &**right) {
        (Expr::Column(column), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(column)) => {
            (column, value)
        }
        _ => return None,
    };
    let field = schema.field_with_name(&column.name).ok()?;
    let is_text = matches!(
        field.data_type(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    let value = value.try_as_str().flatten()?;
    is_text.then(|| (column.name.clone(), value.to_owned()))
}

#[async_trait]
impl TableProvider for PinnedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // A table may give other rows too, so the filter stays above it.
        let usable = |filter: &&Expr| match equality(filter, &self.schema) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(usable).collect())
    }

    fn statistics(&self) -> Option<Statistics> {
        let table = self.table.as_ref()?;
        Some(Statistics {
            num_rows: Precision::Inexact(table.rows()),
            ..Statistics::new_unknown(&self.schema)
        })
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(table) = &self.table else {
            return Err(SqlError::NotPublished {
                view: self.name.clone(),
            }
            .into());
        };
        let scan = Scan {
            projection: projection.cloned(),
            equal: filters
                .iter()
                .filter_map(|filter| equality(filter, &self.schema))
                .collect(),
        };
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Arc::new(ViewScan {
            name: self.name.clone(),
            table: Arc::clone(table),
            scan,
            // With a filter above, more rows than these may be needed.
            limit: limit.filter(|_| filters.is_empty()),
            properties: Arc::new(properties),
        }))
    }
}

/// Reads one view.
struct ViewScan {
    name: String,
    table: Arc<dyn Table>,
    scan: Scan,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
}

impl fmt::Debug for ViewScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ViewScan").field(&self.name).finish()
    }
}

impl DisplayAs for ViewScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ViewScan: {}, rows={}", self.name, self.table.rows())?;
        for (column, value) in &self.scan.equal {
            write!(f, ", {column}={value}")?;
        }
        match self.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for ViewScan {
    fn name(&self) -> &str {
        "ViewScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let batches = limited(self.table.scan(&self.scan), self.limit);
        let expected = Arc::clone(&schema);
        let mut checked = batches.map(move |batch| {
            let batch = batch.map_err(SqlError::from)?;
            if batch.num_columns() == expected.fields().len() {
                Ok(batch)
            } else {
                Err(DataFusionError::Internal(
                    "a view gave other columns than were asked".into(),
                ))
            }
        });
        if self.table.waits() {
            // On a thread that nothing else needs, so that whoever asked can still call it off.
            let mut stream = RecordBatchReceiverStream::builder(schema, AHEAD);
            let pieces = stream.tx();
            stream.spawn_blocking(move || {
                // Whoever has gone needs no more of it.
                while let Some(batch) = checked.next()
                    && pieces.blocking_send(batch).is_ok()
                {}
                Ok(())
            });
            return Ok(stream.build());
        }
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            schema,
            futures::stream::iter(checked),
        )))
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let rows = self
            .limit
            .map_or(self.table.rows(), |limit| limit.min(self.table.rows()));
        Ok(Arc::new(Statistics {
            num_rows: Precision::Inexact(rows),
            ..Statistics::new_unknown(&self.schema())
        }))
    }
}

/// The first `limit` rows.
fn limited(batches: Batches, limit: Option<usize>) -> Batches {
    let Some(mut left) = limit else {
        return batches;
    };
    let mut batches = batches;
    Box::new(std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let batch = batches
            .next()?
            .map(|batch| batch.slice(0, left.min(batch.num_rows())));
        left -= batch.as_ref().map_or(left, RecordBatch::num_rows);
        Some(batch)
    }))
}
