//! Operators that end when their statement must.
//!
//! ```text
//!   every operator --batches--> Watched --> the next: may it go on? batches cut into pieces; what windows keep, accounted
//!   join filters   --evaluated for every round of a join--> Asking: may it go on?
//! ```
//!
//! An operator that reads is stopped by what it reads from. One that neither reads nor answers for long is a join that
//! compares every row with every other; it evaluates its filter all the while, and one that has none is given `true`.

use super::watch;
use arrow::{
    array::RecordBatch,
    datatypes::{DataType, FieldRef, Schema, SchemaRef},
};
use datafusion::{
    common::tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    error::Result,
    execution::{
        RecordBatchStream, SendableRecordBatchStream, TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    logical_expr::ColumnarValue,
    physical_expr::{PhysicalExpr, expressions::lit},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
        joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, utils::JoinFilter},
        windows::{BoundedWindowAggExec, WindowAggExec},
    },
};
use futures::{Stream, StreamExt};
use std::{
    fmt,
    hash::{Hash, Hasher},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// Most rows of a batch, so that what is done with one takes a moment.
pub(super) const BATCH_ROWS: usize = 2048;
/// Most rows over which a window that is not read row by row may go.
const WINDOW_ROWS: usize = 1_000_000;

/// `plan`, of which every part ends when its statement must.
///
/// # Errors
///
/// A part cannot be built anew: a fault of this build.
pub(super) fn watched(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let done = plan.transform_up(|node| {
        let node = asking_join(node)?;
        let keeps = if node.is::<WindowAggExec>() {
            Some(WINDOW_ROWS)
        } else if node.is::<BoundedWindowAggExec>() {
            Some(usize::MAX)
        } else {
            None
        };
        // What goes into a window stays there, on nobody's account.
        let node = match keeps {
            Some(rows) => {
                let kept = node.children().into_iter().map(|child| {
                    let kept = Watched::new(Arc::clone(child), Some(rows));
                    Arc::new(kept) as Arc<dyn ExecutionPlan>
                });
                let kept = kept.collect();
                datafusion::physical_plan::replace_children_if_necessary(node, kept)?
            }
            None => node,
        };
        Ok(Transformed::yes(
            Arc::new(Watched::new(node, None)) as Arc<dyn ExecutionPlan>
        ))
    })?;
    Ok(done.data)
}

fn asking_join(node: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let asking = |filter: &JoinFilter| {
        let asks = Arc::new(Asking(Arc::clone(filter.expression())));
        JoinFilter::new(
            asks,
            filter.column_indices().to_vec(),
            Arc::clone(filter.schema()),
        )
    };
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        let always = || JoinFilter::new(lit(true), Vec::new(), Arc::new(Schema::empty()));
        let filter = join.filter().map_or_else(|| asking(&always()), asking);
        let join = NestedLoopJoinExecBuilder::from(join).with_filter(Some(filter));
        return Ok(Arc::new(join.build()?));
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>()
        && let Some(filter) = join.filter()
    {
        return join.builder().with_filter(Some(asking(filter))).build_exec();
    }
    Ok(node)
}

/// An expression that fails once its statement must end.
#[derive(Debug, Eq)]
struct Asking(Arc<dyn PhysicalExpr>);

impl PartialEq for Asking {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq(&other.0)
    }
}

impl Hash for Asking {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PhysicalExpr for Asking {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.0.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.0.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.0.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        watch::batch_passed()?;
        self.0.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.0]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self(children.swap_remove(0))))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
    }
}

/// What `input` gives, while its statement may run.
#[derive(Debug)]
struct Watched {
    input: Arc<dyn ExecutionPlan>,
    /// Whoever reads it keeps it: at most so many rows, on the statement's account.
    kept: Option<usize>,
}

impl Watched {
    fn new(input: Arc<dyn ExecutionPlan>, kept: Option<usize>) -> Self {
        Self { input, kept }
    }
}

impl DisplayAs for Watched {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watched")
    }
}

impl ExecutionPlan for Watched {
    fn name(&self) -> &str {
        "Watched"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children.swap_remove(0), self.kept)))
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children.swap_remove(0), self.kept)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let account = self
            .kept
            .map(|_| MemoryConsumer::new("window").register(context.memory_pool()));
        Ok(Box::pin(Pieces {
            schema: self.input.schema(),
            input: self.input.execute(partition, context)?,
            rest: None,
            rows: self.kept.unwrap_or(usize::MAX),
            account,
        }))
    }
}

/// Batches of at most [`BATCH_ROWS`].
struct Pieces {
    schema: SchemaRef,
    input: SendableRecordBatchStream,
    rest: Option<RecordBatch>,
    /// That may still come.
    rows: usize,
    account: Option<MemoryReservation>,
}

impl Pieces {
    fn piece(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let piece = batch.slice(0, rows.min(BATCH_ROWS));
        self.rest = (rows > BATCH_ROWS).then(|| batch.slice(BATCH_ROWS, rows - BATCH_ROWS));
        if let Some(account) = &mut self.account {
            account.try_grow(sliced_bytes(&piece))?;
            self.rows = self.rows.checked_sub(piece.num_rows()).ok_or_else(|| {
                datafusion::error::DataFusionError::ResourcesExhausted(format!(
                    "a window goes over more than {WINDOW_ROWS} rows"
                ))
            })?;
        }
        Ok(piece)
    }
}

/// Of these rows alone: a piece shares its memory with the rest.
fn sliced_bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns
        .map(|column| {
            column
                .to_data()
                .get_slice_memory_size()
                .unwrap_or_else(|_| column.get_array_memory_size())
        })
        .sum()
}

impl Stream for Pieces {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        watch::batch_passed()?;
        let batch = match self.rest.take() {
            Some(rest) => rest,
            None => match std::task::ready!(self.input.poll_next_unpin(cx)) {
                Some(batch) => batch?,
                None => return Poll::Ready(None),
            },
        };
        watch::batch_passed()?;
        Poll::Ready(Some(self.piece(batch)))
    }
}

impl RecordBatchStream for Pieces {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
