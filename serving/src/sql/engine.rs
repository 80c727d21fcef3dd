//! Runs statements: each on one epoch, within its limits.

use super::{
    Allowed, Answer, Epochs, SqlError,
    answer::{Account, Asked, CallOff, Deadline},
    bounds::judge_plan,
    expand::judge_tables,
    harden::harden,
    judge::judge,
    memory::Share,
    pin::pin,
    running::{Running, Who, beginning},
    session::Sessions,
    threads::Threads,
    watch::{Watch, is_planned},
    watched::watched,
    work::{Encode, Local, Started, Work},
};
use crate::{Metrics, Offered};
use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    common::ParamValues,
    execution::{
        TaskContext,
        context::SQLOptions,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool, MemoryReservation},
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
    /// How many statements may be worked on at once, each on a thread.
    pub threads: usize,
    /// A statement that takes longer is logged; none, when there is none.
    pub slow: Option<Duration>,
}

impl Limits {
    /// None that anybody would meet: for one's own statement about one's own replay.
    pub const NONE: Self = Self {
        time: Duration::from_secs(365 * 24 * 3600),
        rows: u64::MAX,
        memory_bytes: usize::MAX,
        all_memory_bytes: usize::MAX,
        threads: 2,
        slow: None,
    };
}

/// What is planned of a statement, with its words.
type Planned = (Statement, LogicalPlan);

/// Answers statements, on threads of its own. Cheap to clone. Its methods need a tokio runtime, which they never keep busy.
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
    threads: Arc<Threads>,
    running: Arc<Running>,
    metrics: Metrics,
}

impl Engine {
    /// For these views, as `epochs` gives them.
    ///
    /// # Errors
    ///
    /// No thread can be had, or the functions do not fit each other: a fault of this build.
    pub fn new(
        limits: Limits,
        epochs: Arc<dyn Epochs>,
        offered: Vec<Offered>,
        metrics: Metrics,
    ) -> Result<Self, SqlError> {
        let threads = Threads::new(limits.threads)
            .map_err(|error| SqlError::Failed(format!("no threads for statements: {error}")))?;
        metrics.statement_places(limits.threads);
        let running = Arc::new(Running::new(limits.slow, metrics.clone()));
        Ok(Self {
            inner: Arc::new(Inner {
                limits,
                epochs,
                sessions: Sessions::new(offered.into(), Arc::clone(&running))?,
                parser: PostgresCompatibilityParser::new(),
                memory: Arc::new(GreedyMemoryPool::new(limits.all_memory_bytes)),
                threads: Arc::new(threads),
                running,
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
        let runtime = tokio::runtime::Builder::new_current_thread()
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
    pub async fn query(&self, sql: &str) -> Result<Answer<RecordBatch>, SqlError> {
        let asked = self.ask(None, None, Who::default(), sql);
        let mut statements = self.parse(sql, &asked).await?;
        let whole = |_: &SchemaRef| -> Result<Encode<RecordBatch>, SqlError> {
            Ok(Box::new(|batch| {
                let bytes = batch.get_array_memory_size();
                Box::new(std::iter::once((batch, bytes)))
            }))
        };
        match (statements.pop(), statements.is_empty()) {
            (Some(Allowed::Query(statement)), true) => self.answer(statement, None, &asked, whole).await,
            (_, true) => Err(SqlError::NotServed("there is no question in it".into())),
            (_, false) => Err(SqlError::NotServed("ask one question at a time".into())),
        }
    }

    /// The longest that a statement may take.
    pub fn time_limit(&self) -> Duration {
        self.inner.limits.time
    }

    /// The statements that run.
    pub fn running(&self) -> &Arc<Running> {
        &self.inner.running
    }

    /// `sql` is asked now, by `who`; it has the time that is allowed, or `time` if that is less.
    pub fn ask(
        &self,
        time: Option<Duration>,
        cancel: Option<tokio::sync::watch::Receiver<u64>>,
        who: Who,
        sql: &str,
    ) -> Asked {
        let limit = time.map_or(self.inner.limits.time, |time| time.min(self.inner.limits.time));
        let deadline = Deadline {
            at: Instant::now() + limit,
            limit,
        };
        Asked {
            deadline,
            cancel,
            who,
            text: beginning(sql),
        }
    }

    fn watch(&self, asked: &Asked) -> CallOff {
        let Deadline { at, limit } = asked.deadline;
        let memory = self.inner.limits.memory_bytes;
        CallOff(Watch::new(asked.who.pid, at.into_std(), limit, memory))
    }

    /// Does `work` on a statement thread; leaves it behind when the statement must end.
    async fn work<T: Send + 'static>(
        &self,
        asked: &Asked,
        work: impl FnOnce(&Inner) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        let account = Account::open(self.inner.metrics.clone());
        let watch = self.watch(asked);
        let _listed = self.inner.running.list(asked, Arc::clone(&watch.0));
        let inner = Arc::clone(&self.inner);
        let working = self.inner.threads.run(&watch.0, move || work(&inner));
        account.unless_ended(asked.unless_ended(&watch.0, working).await)
    }

    /// The statements in `sql`, all of which may run.
    ///
    /// # Errors
    ///
    /// It is no SQL, it is too long or too deep, or one of them may not run.
    pub async fn parse(&self, sql: &str, asked: &Asked) -> Result<Vec<Allowed>, SqlError> {
        let sql = sql.to_owned();
        self.work(asked, move |inner| inner.parse(&sql)).await
    }

    /// What `described` says of the one statement in `sql`, planned over no rows if it is a query; nothing, if there is none.
    ///
    /// # Errors
    ///
    /// It is no SQL, it may not run, it cannot be planned, or it is several.
    pub async fn describe<T: Send + 'static>(
        &self,
        sql: &str,
        asked: &Asked,
        described: impl FnOnce(Allowed, Option<&Planned>) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<Option<T>, SqlError> {
        let sql = sql.to_owned();
        let work = move |inner: &Inner| {
            let mut statements = inner.parse(&sql)?;
            let Some(statement) = statements.pop() else {
                return Ok(None);
            };
            if !statements.is_empty() {
                let several = "several statements cannot be prepared as one; prepare one at a time";
                return Err(SqlError::Syntax(several.into()));
            }
            let planned = match &statement {
                Allowed::Query(query) => Some((query.clone(), inner.plan(query.clone())?)),
                _ => None,
            };
            described(statement, planned.as_ref()).map(Some)
        };
        self.work(asked, work).await
    }

    /// So many bytes of the memory of all statements, until what is returned is dropped.
    ///
    /// # Errors
    ///
    /// There are not so many left.
    pub fn reserve(&self, what: &str, bytes: usize) -> Result<MemoryReservation, SqlError> {
        let reservation = MemoryConsumer::new(what).register(&self.inner.memory);
        reservation.try_grow(bytes)?;
        Ok(reservation)
    }

    /// The answer to `statement`, from one epoch that is pinned now, made by what `encode` makes of its columns.
    ///
    /// # Errors
    ///
    /// It cannot be planned, or a limit was met before the first row; or what `encode` says.
    pub async fn answer<T: Send + 'static, E: From<SqlError>>(
        &self,
        statement: Statement,
        parameters: Option<ParamValues>,
        asked: &Asked,
        encode: impl FnOnce(&SchemaRef) -> Result<Encode<T>, E>,
    ) -> Result<Answer<T>, E> {
        let mut account = Account::open(self.inner.metrics.clone());
        let watch = self.watch(asked);
        let listed = self.inner.running.list(asked, Arc::clone(&watch.0));
        let started = self.start(statement, parameters, asked, &watch.0).await;
        let (started, published) = started.inspect_err(|error| account.ended(error.outcome()))?;
        let schema = started.schema();
        let encode = match encode(&schema) {
            Ok(encode) => encode,
            Err(error) => {
                account.ended("failed");
                self.inner.threads.let_go(started);
                return Err(error);
            }
        };
        let work = Work::new(started, encode, Arc::clone(&watch.0), self.inner.limits.rows);
        let threads = Arc::clone(&self.inner.threads);
        Ok(Answer::new(
            schema, work, published, threads, watch, asked, listed, account,
        ))
    }

    async fn start(
        &self,
        statement: Statement,
        parameters: Option<ParamValues>,
        asked: &Asked,
        watch: &Arc<Watch>,
    ) -> Result<(Started, Option<Arc<Published>>), SqlError> {
        // Before planning: a plan knows its tables.
        let needs_replicas = Allowed::names_replicas(&statement);
        let pinning = pin(&self.inner.epochs, needs_replicas, asked.left());
        let published = asked.unless_ended(watch, pinning).await?;
        let (inner, pinned) = (Arc::clone(&self.inner), published.clone());
        let starting = self
            .inner
            .threads
            .run(watch, move || inner.start(statement, parameters, pinned));
        Ok((asked.unless_ended(watch, starting).await?, published))
    }
}

/// What a statement thread does.
impl Inner {
    fn parse(&self, sql: &str) -> Result<Vec<Allowed>, SqlError> {
        judge(sql)?;
        let statements = self
            .parser
            .parse(sql)
            .map_err(|error| SqlError::Syntax(error.to_string()))?;
        let allowed = statements.into_iter().map(|statement| {
            judge_tables(&statement)?;
            Allowed::from_statement(statement)
        });
        allowed.collect()
    }

    /// Over no rows.
    fn plan(&self, statement: Statement) -> Result<LogicalPlan, SqlError> {
        let state = self.sessions.session(None)?;
        let parsed = Parsed::Statement(Box::new(statement));
        let plan = Local::new()?.block_on(async { Ok(state.statement_to_plan(parsed).await?) })?;
        only_reads(&plan)?;
        judge_plan(&plan)?;
        Ok(plan)
    }

    fn start(
        &self,
        statement: Statement,
        parameters: Option<ParamValues>,
        pinned: Option<Arc<Published>>,
    ) -> Result<Started, SqlError> {
        let state = self.sessions.session(pinned)?;
        let share = Share::new(self.limits.memory_bytes, Arc::clone(&self.memory));
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(share))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()?;
        let local = Local::new()?;
        let batches = local.block_on(async {
            let mut plan = state
                .statement_to_plan(Parsed::Statement(Box::new(statement)))
                .await?;
            only_reads(&plan)?;
            if let Some(parameters) = &parameters {
                plan = plan.replace_params_with_values(parameters)?;
            }
            judge_plan(&plan)?;
            let plan = state.optimize(&harden(plan)?)?;
            let physical = watched(state.create_physical_plan(&plan).await?)?;
            is_planned();
            let context = TaskContext::from(&state).with_runtime(runtime);
            Ok(execute_stream(physical, Arc::new(context))?)
        })?;
        Ok(Started { batches, local })
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
