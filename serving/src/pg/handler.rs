//! One connection's statements, in both protocols: as text, or parsed, bound and executed.
//!
//! ```text
//!   Query -----------------------------------> allowed --> answered --> rows, as they are made
//!   Parse --> planned over no rows, described    |
//!   Bind, Execute --> parameters ----------------+
//! ```
//!
//! A prepared statement is planned again each time it is executed, for it is another epoch then.

use super::{DOOR, parameters, words};
use crate::panics;
use crate::sql::{Allowed, Answer, Asked, Encode, Engine, SqlError, Who};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::{
    common::{
        ParamValues,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    execution::memory_pool::MemoryReservation,
    logical_expr::{Expr, LogicalPlan},
    prelude::SessionContext,
    sql::sqlparser::ast::Statement,
};
use datafusion_postgres::{
    DfSessionService, Parser,
    arrow_pg::datatypes::{
        arrow_schema_to_pg_fields, df::deserialize_parameters_with_server_types, encode_recordbatch,
    },
};
use futures::{Sink, SinkExt, StreamExt};
use pgwire::{
    api::{
        ClientInfo, ClientPortalStore, METADATA_USER, PgWireConnectionState, Type,
        portal::{Format, Portal, PortalExecutionState},
        query::{ExtendedQueryHandler, SimpleQueryHandler},
        results::{FieldInfo, QueryResponse, Response, Tag},
        stmt::QueryParser,
        store::{Entry, PortalStore},
    },
    error::{ErrorInfo, PgWireError, PgWireResult},
    messages::{
        PgWireBackendMessage,
        data::DataRow,
        extendedquery::{Bind, BindComplete, Execute, PortalSuspended},
        response::EmptyQueryResponse,
    },
    types::format::FormatOptions,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::watch;

/// The name of a statement or portal that has none.
const UNNAMED: &str = pgwire::api::DEFAULT_NAME;
/// Most statements that one connection may have prepared.
const PREPARED: usize = 256;
/// Most portals with names that it may have open.
const PORTALS: usize = 64;
/// What is known of a prepared statement takes about so much, in bytes, and as much for each of its columns.
const DESCRIPTION: usize = 512;

/// A statement that a client has prepared: its words, and what they were found to be.
///
/// No plan is kept: it would be of another epoch by the time it is executed, and of many times the size.
#[derive(Debug, Clone)]
pub(super) enum Prepared {
    Query(Arc<Described>),
    Setting(Statement),
    Transaction(Statement),
    Nothing(&'static str),
}

/// A query that a client has prepared.
#[derive(Debug)]
pub(super) struct Described {
    sql: String,
    columns: Schema,
    /// What the values are here, where that is known, in their order.
    known: Vec<Option<DataType>>,
    /// What they are to the client.
    wire: Vec<Type>,
    _place: Place,
}

/// A place among the statements of a connection, and the memory that it takes.
#[derive(Debug)]
struct Place {
    taken: Arc<AtomicUsize>,
    _memory: MemoryReservation,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one connection does with statements.
pub(super) struct Handler {
    engine: Engine,
    cancel: watch::Receiver<u64>,
    types: Arc<Types>,
    prepared: Arc<AtomicUsize>,
    portals: Mutex<BTreeSet<String>>,
}

/// What PostgreSQL calls the types of parameters; the rules for that are the library's.
pub(super) struct Types(Arc<Parser>);

impl Types {
    pub(super) fn new() -> Self {
        let service = DfSessionService::new_with_hooks(Arc::new(SessionContext::new()), Vec::new());
        Self(ExtendedQueryHandler::query_parser(&service))
    }

    fn of_parameters(&self, planned: &(Statement, LogicalPlan)) -> PgWireResult<Vec<Type>> {
        self.0
            .get_parameter_types(&(String::new(), Some(planned.clone())))
    }
}

/// An error, as the client is told.
pub(super) fn told(error: SqlError) -> PgWireError {
    let info = ErrorInfo::new("ERROR".into(), error.state().into(), error.to_string());
    PgWireError::UserError(Box::new(info))
}

fn protocol_violation(message: &str) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new(
        "ERROR".into(),
        "08P01".into(),
        message.into(),
    )))
}

impl Handler {
    pub(super) fn new(engine: Engine, cancel: watch::Receiver<u64>, types: Arc<Types>) -> Self {
        Self {
            engine,
            cancel,
            types,
            prepared: Arc::default(),
            portals: Mutex::default(),
        }
    }

    fn ask(&self, client: &impl ClientInfo, sql: &str) -> Asked {
        let mut cancel = self.cancel.clone();
        // What was called off before is another statement.
        cancel.mark_unchanged();
        let user = client.metadata().get(METADATA_USER).map_or("", String::as_str);
        let who = Who {
            pid: client.pid_and_secret_key().0,
            user: user.into(),
        };
        self.engine
            .ask(words::statement_timeout(client), Some(cancel), who, sql)
    }

    /// A place for one more prepared statement of so many bytes.
    fn place(&self, bytes: usize) -> Result<Place, SqlError> {
        let memory = self.engine.reserve("prepared", bytes)?;
        let taken = Arc::clone(&self.prepared);
        // Given back when it is dropped, also here.
        let before = taken.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            taken,
            _memory: memory,
        };
        if before >= PREPARED {
            return Err(SqlError::TooComplex {
                state: "54000",
                message: format!(
                    "this connection has {PREPARED} prepared statements, and may not have more: close some (`deallocate all` \
                     does nothing here; drivers close what they do not use)"
                ),
            });
        }
        Ok(place)
    }

    /// Whether one more portal of this name may be open.
    fn may_open<S: PortalStore>(&self, name: &str, store: &S) -> PgWireResult<()> {
        if name == UNNAMED {
            return Ok(());
        }
        let mut portals = self.portals.lock().unwrap_or_else(PoisonError::into_inner);
        if portals.len() >= PORTALS && !portals.contains(name) {
            portals.retain(|open| store.get_portal(open).is_some());
        }
        if portals.len() >= PORTALS && !portals.contains(name) {
            return Err(told(SqlError::TooComplex {
                state: "54000",
                message: format!(
                    "this connection has {PORTALS} open portals, and may not have more: close some"
                ),
            }));
        }
        portals.insert(name.to_owned());
        Ok(())
    }
}

impl From<SqlError> for PgWireError {
    fn from(error: SqlError) -> Self {
        told(error)
    }
}

/// Makes rows of batches.
type EncodeRows = Encode<PgWireResult<DataRow>>;

/// How rows are made for the client, and what is told of them.
fn encoder(
    schema: &SchemaRef,
    format: &Format,
    options: &Arc<FormatOptions>,
) -> PgWireResult<(Arc<Vec<FieldInfo>>, EncodeRows)> {
    let fields = Arc::new(arrow_schema_to_pg_fields(
        schema,
        format,
        Some(Arc::clone(options)),
    )?);
    let encoded = Arc::clone(&fields);
    let encode: EncodeRows = Box::new(move |batch| {
        let rows = encode_recordbatch(Arc::clone(&encoded), batch);
        Box::new(rows.map(|row| {
            let bytes = row.as_ref().map_or(0, |row| row.data.len());
            (row, bytes)
        }))
    });
    Ok((fields, encode))
}

/// The rows of `answer`.
fn rows(answer: Answer<PgWireResult<DataRow>>, fields: Arc<Vec<FieldInfo>>) -> Response {
    let rows = answer.map(|row| row.map_err(told).and_then(|row| row));
    Response::Query(QueryResponse::new(fields, rows))
}

#[async_trait]
impl SimpleQueryHandler for Handler {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let asked = self.ask(client, query);
        // All are looked at before the first is run.
        let statements = self.engine.parse(query, &asked).await.map_err(told)?;
        if statements.is_empty() {
            return Ok(vec![Response::EmptyQuery]);
        }
        let mut responses = Vec::with_capacity(statements.len());
        for statement in statements {
            if !matches!(statement, Allowed::Transaction(_)) {
                words::not_aborted(client)?;
            }
            responses.push(match statement {
                Allowed::Query(statement) => {
                    self.answer(client, statement, None, &asked, &Format::UnifiedText)
                        .await?
                }
                Allowed::Setting(statement) => {
                    words::setting(client, &statement, &Format::UnifiedText).await?
                }
                Allowed::Transaction(statement) => words::transaction(client, &statement),
                Allowed::Nothing(tag) => Response::Execution(Tag::new(tag)),
            });
        }
        Ok(responses)
    }
}

/// What a statement thread has found a statement to be.
enum Found {
    Query {
        columns: Schema,
        known: Vec<Option<DataType>>,
        wire: Vec<Type>,
    },
    Other(Box<Allowed>),
}

/// Parses for one connection.
pub(super) struct Preparer(Arc<Handler>);

#[async_trait]
impl QueryParser for Preparer {
    type Statement = Prepared;

    async fn parse_sql<C>(&self, client: &C, sql: &str, _: &[Option<Type>]) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let handler = &self.0;
        let asked = handler.ask(client, sql);
        let types = Arc::clone(&handler.types);
        let described = handler.engine.describe(sql, &asked, move |statement, planned| {
            Ok(match (statement, planned) {
                (Allowed::Query(_), Some(planned)) => Found::Query {
                    columns: planned.1.schema().as_arrow().clone(),
                    known: parameter_types(&planned.1)?,
                    wire: types
                        .of_parameters(planned)
                        .map_err(|error| SqlError::Failed(error.to_string()))?,
                },
                (other, _) => Found::Other(Box::new(other)),
            })
        });
        let Some(found) = described.await? else {
            return Ok(None);
        };
        if !matches!(&found, Found::Other(other) if matches!(**other, Allowed::Transaction(_))) {
            words::not_aborted(client)?;
        }
        Ok(Some(match found {
            Found::Query { columns, known, wire } => {
                let parts = 1 + columns.fields().len() + wire.len();
                let bytes = sql.len() + DESCRIPTION * parts;
                Prepared::Query(Arc::new(Described {
                    sql: sql.to_owned(),
                    columns,
                    known,
                    wire,
                    _place: handler.place(bytes)?,
                }))
            }
            Found::Other(other) => match *other {
                Allowed::Setting(statement) => Prepared::Setting(statement),
                Allowed::Transaction(statement) => Prepared::Transaction(statement),
                Allowed::Nothing(tag) => Prepared::Nothing(tag),
                Allowed::Query(_) => {
                    return Err(told(SqlError::Failed("the statement has no plan".into())));
                }
            },
        }))
    }

    fn get_parameter_types(&self, prepared: &Prepared) -> PgWireResult<Vec<Type>> {
        match prepared {
            Prepared::Query(described) => Ok(described.wire.clone()),
            _ => Ok(Vec::new()),
        }
    }

    fn get_result_schema(
        &self,
        prepared: &Prepared,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        let schema = columns(prepared);
        let format = format.unwrap_or(&Format::UnifiedText);
        fits(format, schema.fields().len())?;
        arrow_schema_to_pg_fields(&schema, format, None)
    }
}

fn columns(prepared: &Prepared) -> Schema {
    match prepared {
        Prepared::Query(described) => described.columns.clone(),
        Prepared::Setting(statement) => words::columns(statement),
        Prepared::Transaction(_) | Prepared::Nothing(_) => Schema::empty(),
    }
}

/// Whether there is a format for each of `count` columns or parameters.
fn fits(format: &Format, count: usize) -> PgWireResult<()> {
    match format {
        Format::Individual(formats) if formats.len() < count => {
            Err(protocol_violation("fewer formats than columns or parameters"))
        }
        _ => Ok(()),
    }
}

/// What is known of the types of the parameters, in their order.
fn parameter_types(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>, SqlError> {
    let mut types: BTreeMap<u32, Option<DataType>> = BTreeMap::new();
    let number = |id: &str| id.trim_start_matches('$').parse().unwrap_or(u32::MAX);
    for (id, known) in plan.get_parameter_types()? {
        types.insert(number(&id), known);
    }
    // `$1::bigint` says what it is.
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                if let Expr::Cast(cast) = part
                    && let Expr::Placeholder(placeholder) = &*cast.expr
                {
                    let known = types.entry(number(&placeholder.id)).or_default();
                    known.get_or_insert_with(|| cast.field.data_type().clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(types.into_values().collect())
}

impl Handler {
    async fn answer(
        &self,
        client: &impl ClientInfo,
        statement: Statement,
        parameters: Option<ParamValues>,
        asked: &Asked,
        format: &Format,
    ) -> PgWireResult<Response> {
        let options = Arc::new(FormatOptions::from_client_metadata(client.metadata()));
        let mut fields = None;
        let encode = |schema: &SchemaRef| {
            let (told, encode) = encoder(schema, format, &options)?;
            fields = Some(told);
            Ok::<_, PgWireError>(encode)
        };
        let answer = self.engine.answer(statement, parameters, asked, encode).await?;
        Ok(rows(answer, fields.unwrap_or_default()))
    }

    async fn execute<C>(&self, client: &mut C, portal: &Portal<Prepared>) -> PgWireResult<Response>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = &portal.statement.statement;
        if !matches!(prepared, Prepared::Transaction(_)) {
            words::not_aborted(client)?;
        }
        match prepared {
            Prepared::Query(described) => {
                let known: Vec<Option<&DataType>> = described.known.iter().map(Option::as_ref).collect();
                let wire: Vec<Option<&Type>> = described.wire.iter().map(Some).collect();
                let parameters = match portal.parameter_len() {
                    0 => None,
                    // What these values can still be is for the library to say, which is not always able to.
                    _ => Some(
                        panics::guarded(DOOR, || {
                            deserialize_parameters_with_server_types(portal, &known, &wire)
                        })
                        .map_err(|panicked| told(SqlError::Failed(panicked.to_string())))??,
                    ),
                };
                let asked = self.ask(client, &described.sql);
                let mut statements = self.engine.parse(&described.sql, &asked).await?;
                let Some(Allowed::Query(statement)) = statements.pop() else {
                    return Err(told(SqlError::Failed("what was prepared is no query".into())));
                };
                self.answer(
                    client,
                    statement,
                    parameters,
                    &asked,
                    &portal.result_column_format,
                )
                .await
            }
            Prepared::Setting(statement) => {
                words::setting(client, statement, &portal.result_column_format).await
            }
            Prepared::Transaction(statement) => Ok(words::transaction(client, statement)),
            Prepared::Nothing(tag) => Ok(Response::Execution(Tag::new(tag))),
        }
    }
}

/// The handler of the extended protocol of one connection.
pub(super) struct Extended {
    handler: Arc<Handler>,
    preparer: Arc<Preparer>,
}

impl Extended {
    pub(super) fn new(handler: Arc<Handler>) -> Self {
        let preparer = Arc::new(Preparer(Arc::clone(&handler)));
        Self { handler, preparer }
    }
}

#[async_trait]
impl ExtendedQueryHandler for Extended {
    type Statement = Prepared;
    type QueryParser = Preparer;

    fn query_parser(&self) -> Arc<Preparer> {
        Arc::clone(&self.preparer)
    }

    /// As the library does it, and formats are counted before they are used.
    async fn on_bind<C>(&self, client: &mut C, message: Bind) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.statement_name.as_deref().unwrap_or(UNNAMED);
        match client.portal_store().get_statement(name) {
            Some(Entry::Value(statement)) => {
                let portal = Portal::try_new(&message, statement)?;
                fits(&portal.parameter_format, portal.parameter_len())?;
                let columns = columns(&portal.statement.statement).fields().len();
                fits(&portal.result_column_format, columns)?;
                let wanted = self.preparer.get_parameter_types(&portal.statement.statement)?;
                if portal.parameter_len() != wanted.len() {
                    return Err(protocol_violation(
                        "there are more or fewer parameters than the statement has",
                    ));
                }
                parameters::judge(&portal, &wanted)?;
                self.handler.may_open(&portal.name, client.portal_store())?;
                client.portal_store().put_portal(Arc::new(portal));
            }
            Some(Entry::Empty) => {
                let portal = message.portal_name.as_deref().unwrap_or(UNNAMED);
                self.handler.may_open(portal, client.portal_store())?;
                client.portal_store().put_empty_portal(portal);
            }
            None => return Err(PgWireError::StatementNotFound(name.to_owned())),
        }
        client
            .send(PgWireBackendMessage::BindComplete(BindComplete::new()))
            .await?;
        Ok(())
    }

    /// The library gathers all rows before it sends the first; here each goes when it is made.
    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        let name = message.name.as_deref().unwrap_or(UNNAMED);
        let portal = match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => portal,
            Some(Entry::Empty) => {
                let empty = PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new());
                client.feed(empty).await?;
                return Ok(());
            }
            None => return Err(PgWireError::PortalNotFound(name.to_owned())),
        };
        let state = portal.state();
        let mut state = state.lock().await;
        if matches!(*state, PortalExecutionState::Initial) {
            let before = client.transaction_status();
            match self.handler.execute(client, &portal).await? {
                Response::Query(response) => *state = PortalExecutionState::Suspended(response),
                Response::Execution(tag) => return complete(client, tag).await,
                Response::TransactionStart(tag) => {
                    client.set_transaction_status(before.to_in_transaction_state());
                    return complete(client, tag).await;
                }
                Response::TransactionEnd(tag) => {
                    client.set_transaction_status(before.to_idle_state());
                    return complete(client, tag).await;
                }
                _ => return Err(PgWireError::NotReadyForQuery),
            }
        }
        let most = usize::try_from(message.max_rows).unwrap_or(0);
        let mut sent = 0;
        let mut tag = Tag::new("SELECT");
        if let PortalExecutionState::Suspended(response) = &mut *state {
            tag = Tag::new(response.command_tag());
            while most == 0 || sent < most {
                match response.data_rows().next().await {
                    Some(row) => client.feed(PgWireBackendMessage::DataRow(row?)).await?,
                    None => {
                        *state = PortalExecutionState::Finished;
                        break;
                    }
                }
                sent += 1;
            }
        }
        if matches!(*state, PortalExecutionState::Suspended(_)) {
            let suspended = PgWireBackendMessage::PortalSuspended(PortalSuspended::new());
            client.feed(suspended).await?;
            return Ok(());
        }
        complete(client, tag.with_rows(sent)).await
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Prepared>, _: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.handler.execute(client, portal).await
    }
}

async fn complete<C>(client: &mut C, tag: Tag) -> PgWireResult<()>
where
    C: Sink<PgWireBackendMessage> + Unpin,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    client
        .feed(PgWireBackendMessage::CommandComplete(tag.into()))
        .await?;
    Ok(())
}
