//! Runs statements: each on one epoch, within its limits.

use super::{
    Allowed, Answer, Epochs, SqlError,
    answer::{Account, Cancel, Deadline, cancelled},
    memory::Share,
    pin::pin,
    session::Sessions,
};
use crate::{Metrics, Offered};
use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    common::ParamValues,
    execution::{
        TaskContext,
        context::SQLOptions,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{GreedyMemoryPool, MemoryPool},
        runtime_env::RuntimeEnvBuilder,
    },
    logical_expr::LogicalPlan,
    physical_plan::execute_stream,
    sql::{parser::Statement as Parsed, sqlparser::ast::Statement},
};
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use dbb_operators::publish::Published;
use futures::TryStreamExt;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// What one statement may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long it may take, planning and sending its rows included.
    pub time: Duration,
    /// How many rows its answer may have.
    pub rows: u64,
    /// How many bytes it may keep while it runs.
    pub memory_bytes: usize,
    /// How many bytes all statements may keep together.
    pub all_memory_bytes: usize,
}

impl Limits {
    /// None that anybody would meet: for one's own statement about one's own replay.
    pub const NONE: Self = Self {
        time: Duration::from_secs(365 * 24 * 3600),
        rows: u64::MAX,
        memory_bytes: usize::MAX,
        all_memory_bytes: usize::MAX,
    };
}

/// A statement that is asked: when, for how long at most, and who may call it off.
#[derive(Debug, Clone)]
pub struct Asked {
    deadline: Deadline,
    cancel: Option<Cancel>,
}

/// A statement that has been planned once, to know its parameters and columns.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The statement.
    pub statement: Statement,
    /// Its plan over no rows.
    pub plan: LogicalPlan,
}

/// Answers statements. Cheap to clone. Its methods need a tokio runtime, and do their work there.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    limits: Limits,
    epochs: Arc<dyn Epochs>,
    sessions: Sessions,
    parser: PostgresCompatibilityParser,
    memory: Arc<dyn MemoryPool>,
    metrics: Metrics,
}

impl Engine {
    /// For these views, as `epochs` gives them.
    ///
    /// # Errors
    ///
    /// The functions do not fit each other: a fault of this build.
    pub fn new(
        limits: Limits,
        epochs: Arc<dyn Epochs>,
        offered: Vec<Offered>,
        metrics: Metrics,
    ) -> Result<Self, SqlError> {
        Ok(Self {
            inner: Arc::new(Inner {
                limits,
                epochs,
                sessions: Sessions::new(offered.into())?,
                parser: PostgresCompatibilityParser::new(),
                memory: Arc::new(GreedyMemoryPool::new(limits.all_memory_bytes)),
                metrics,
            }),
        })
    }

    /// Asks `published` one question and waits for the whole answer; not for use inside a runtime.
    ///
    /// # Errors
    ///
    /// It is no query, or it failed.
    pub fn run_once(sql: &str, published: Arc<Published>) -> Result<(SchemaRef, Vec<RecordBatch>), SqlError> {
        let failed = |error: std::io::Error| SqlError::Failed(error.to_string());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .map_err(failed)?;
        let offered = Offered::in_published(&published);
        let engine = Self::new(Limits::NONE, Arc::new(published), offered, Metrics::default())?;
        runtime.block_on(async {
            let answer = engine.query(sql).await?;
            let schema = answer.schema();
            Ok((schema, answer.try_collect().await?))
        })
    }

    /// The answer to `sql`, which is one question.
    ///
    /// # Errors
    ///
    /// It is no query, it is more than one, it cannot be planned, or a limit was met before the first row.
    pub async fn query(&self, sql: &str) -> Result<Answer, SqlError> {
        let asked = self.ask(None, None);
        let mut statements = self.parse(sql, &asked).await?;
        match (statements.pop(), statements.is_empty()) {
            (Some(Allowed::Query(statement)), true) => self.answer(statement, None, &asked).await,
            (_, true) => Err(SqlError::NotServed("there is no question in it".into())),
            (_, false) => Err(SqlError::NotServed("ask one question at a time".into())),
        }
    }

    /// The longest that a statement may take.
    pub fn time_limit(&self) -> Duration {
        self.inner.limits.time
    }

    /// A statement is asked now; it has the time that is allowed, or `time` if that is less.
    pub fn ask(&self, time: Option<Duration>, cancel: Option<tokio::sync::watch::Receiver<u64>>) -> Asked {
        let limit = time.map_or(self.inner.limits.time, |time| time.min(self.inner.limits.time));
        let deadline = Deadline {
            at: Instant::now() + limit,
            limit,
        };
        Asked { deadline, cancel }
    }

    /// The statements in `sql`, all of which may run.
    ///
    /// # Errors
    ///
    /// It is no SQL, or one of them may not run.
    pub async fn parse(&self, sql: &str, asked: &Asked) -> Result<Vec<Allowed>, SqlError> {
        let account = Account::open(self.inner.metrics.clone());
        let (inner, sql) = (Arc::clone(&self.inner), sql.to_owned());
        let parsed = asked
            .work(move || {
                let statements = inner
                    .parser
                    .parse(&sql)
                    .map_err(|e| SqlError::Syntax(e.to_string()))?;
                statements.into_iter().map(Allowed::from_statement).collect()
            })
            .await;
        account.unless_ended(parsed)
    }

    /// Plans `statement` over no rows.
    ///
    /// # Errors
    ///
    /// It cannot be planned.
    pub async fn plan(&self, statement: Statement, asked: &Asked) -> Result<Planned, SqlError> {
        let account = Account::open(self.inner.metrics.clone());
        let inner = Arc::clone(&self.inner);
        let handle = tokio::runtime::Handle::current();
        let planned = asked
            .work(move || {
                let state = inner.sessions.session(None)?;
                let parsed = Parsed::Statement(Box::new(statement.clone()));
                let plan = handle.block_on(state.statement_to_plan(parsed))?;
                only_reads(&plan)?;
                Ok(Planned { statement, plan })
            })
            .await;
        account.unless_ended(planned)
    }

    /// The answer to `statement`, from one epoch that is pinned now.
    ///
    /// # Errors
    ///
    /// It cannot be planned, or a limit was met before the first row.
    pub async fn answer(
        &self,
        statement: Statement,
        parameters: Option<ParamValues>,
        asked: &Asked,
    ) -> Result<Answer, SqlError> {
        let mut account = Account::open(self.inner.metrics.clone());
        let started = self.start(statement, parameters, asked).await;
        match started {
            Ok((batches, published)) => Ok(Answer::new(
                batches,
                published,
                asked.deadline,
                asked.cancel.clone(),
                self.inner.limits.rows,
                account,
            )),
            Err(error) => {
                account.ended(error.outcome());
                Err(error)
            }
        }
    }

    async fn start(
        &self,
        statement: Statement,
        parameters: Option<ParamValues>,
        asked: &Asked,
    ) -> Result<
        (
            datafusion::execution::SendableRecordBatchStream,
            Option<Arc<Published>>,
        ),
        SqlError,
    > {
        // Before planning: a plan knows its tables.
        let needs_replicas = Allowed::names_replicas(&statement);
        let pinning = pin(&self.inner.epochs, needs_replicas, asked.left());
        let published = asked.unless_stopped(pinning).await?;
        let (inner, pinned) = (Arc::clone(&self.inner), published.clone());
        let handle = tokio::runtime::Handle::current();
        let planning = move || {
            let state = inner.sessions.session(pinned)?;
            let share = Share::new(inner.limits.memory_bytes, Arc::clone(&inner.memory));
            let runtime = RuntimeEnvBuilder::new()
                .with_memory_pool(Arc::new(share))
                .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
                .build_arc()?;
            let physical = handle.block_on(async {
                let mut plan = state
                    .statement_to_plan(Parsed::Statement(Box::new(statement)))
                    .await?;
                only_reads(&plan)?;
                if let Some(parameters) = &parameters {
                    plan = plan.replace_params_with_values(parameters)?;
                }
                let plan = state.optimize(&plan)?;
                state.create_physical_plan(&plan).await
            })?;
            let context = TaskContext::from(&state).with_runtime(runtime);
            Ok((physical, context))
        };
        let (physical, context) = asked.work(planning).await?;
        Ok((execute_stream(physical, Arc::new(context))?, published))
    }
}

/// The rules looked at the words; this looks at what the words mean.
fn only_reads(plan: &LogicalPlan) -> datafusion::error::Result<()> {
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(plan)
}

impl Asked {
    fn left(&self) -> Duration {
        self.deadline.at.saturating_duration_since(Instant::now())
    }

    /// Runs `work` on a thread that may be kept busy; leaves it behind when the statement's time is over.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        let working = async {
            match tokio::task::spawn_blocking(work).await {
                Ok(done) => done,
                Err(_) => Err(SqlError::Failed("the statement could not be planned".into())),
            }
        };
        self.unless_stopped(working).await
    }

    async fn unless_stopped<T>(
        &self,
        doing: impl Future<Output = Result<T, SqlError>>,
    ) -> Result<T, SqlError> {
        let stopped = async {
            match &self.cancel {
                Some(cancel) => cancelled(cancel.clone()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            done = doing => done,
            () = tokio::time::sleep_until(self.deadline.at) => Err(SqlError::TooLong(self.deadline.limit)),
            () = stopped => Err(SqlError::Cancelled),
        }
    }
}
