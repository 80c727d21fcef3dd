//! One connection's statements, in both protocols: as text, or parsed, bound and executed.
//!
//! ```text
//!   Query ---------------------------> allowed --> answered --> rows, as they are made
//!   Parse --> planned over no rows       |
//!   Bind, Execute --> parameters --------+
//! ```
//!
//! A prepared statement is planned again each time it is executed, for it is another epoch then.

use super::{DOOR, parameters, words};
use crate::panics;
use crate::sql::{Allowed, Answer, Asked, Engine, Planned, SqlError};
use arrow::datatypes::{DataType, Schema};
use async_trait::async_trait;
use datafusion::{
    common::tree_node::{TreeNode, TreeNodeRecursion},
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
        ClientInfo, ClientPortalStore, PgWireConnectionState, Type,
        portal::{Format, Portal, PortalExecutionState},
        query::{ExtendedQueryHandler, SimpleQueryHandler},
        results::{FieldInfo, QueryResponse, Response, Tag},
        stmt::QueryParser,
        store::{Entry, PortalStore},
    },
    error::{ErrorInfo, PgWireError, PgWireResult},
    messages::{
        PgWireBackendMessage,
        extendedquery::{Bind, BindComplete, Execute, PortalSuspended},
        response::EmptyQueryResponse,
    },
    types::format::FormatOptions,
};
use std::{collections::BTreeMap, fmt::Debug, sync::Arc};
use tokio::sync::watch;

/// The name of a statement or portal that has none.
const UNNAMED: &str = pgwire::api::DEFAULT_NAME;

/// A statement that a client has prepared.
#[derive(Debug, Clone)]
pub(super) enum Prepared {
    Query(Arc<Planned>),
    Setting(Statement),
    Transaction(Statement),
    Nothing(&'static str),
}

/// What one connection does with statements.
pub(super) struct Handler {
    engine: Engine,
    cancel: watch::Receiver<u64>,
    types: Arc<Types>,
}

/// What PostgreSQL calls the types of parameters; the rules for that are the library's.
pub(super) struct Types(Arc<Parser>);

impl Types {
    pub(super) fn new() -> Self {
        let service = DfSessionService::new_with_hooks(Arc::new(SessionContext::new()), Vec::new());
        Self(ExtendedQueryHandler::query_parser(&service))
    }

    fn of_parameters(&self, planned: &Planned) -> PgWireResult<Vec<Type>> {
        let known = Some((planned.statement.clone(), planned.plan.clone()));
        self.0.get_parameter_types(&(String::new(), known))
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
        }
    }

    fn ask(&self, client: &impl ClientInfo) -> Asked {
        let mut cancel = self.cancel.clone();
        // What was called off before is another statement.
        cancel.mark_unchanged();
        self.engine.ask(words::statement_timeout(client), Some(cancel))
    }
}

/// The rows of `answer` as the client wants them.
fn rows(answer: Answer, format: &Format, client: &impl ClientInfo) -> PgWireResult<Response> {
    let options = Arc::new(FormatOptions::from_client_metadata(client.metadata()));
    let fields = Arc::new(arrow_schema_to_pg_fields(
        &answer.schema(),
        format,
        Some(options),
    )?);
    let encoded = Arc::clone(&fields);
    let rows = answer.flat_map(move |batch| {
        let rows: Box<dyn Iterator<Item = _> + Send> = match batch {
            Ok(batch) => encode_recordbatch(Arc::clone(&encoded), batch),
            Err(error) => Box::new(std::iter::once(Err(told(error)))),
        };
        futures::stream::iter(rows)
    });
    Ok(Response::Query(QueryResponse::new(fields, rows)))
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
        let asked = self.ask(client);
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
                    let answer = self.engine.answer(statement, None, &asked).await.map_err(told)?;
                    rows(answer, &Format::UnifiedText, client)?
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
        let asked = handler.ask(client);
        let mut statements = handler.engine.parse(sql, &asked).await.map_err(told)?;
        let Some(statement) = statements.pop() else {
            return Ok(None);
        };
        if !statements.is_empty() {
            let several = "several statements cannot be prepared as one; prepare one at a time";
            return Err(told(SqlError::Syntax(several.into())));
        }
        if !matches!(statement, Allowed::Transaction(_)) {
            words::not_aborted(client)?;
        }
        Ok(Some(match statement {
            Allowed::Query(statement) => {
                let planned = handler.engine.plan(statement, &asked).await.map_err(told)?;
                Prepared::Query(Arc::new(planned))
            }
            Allowed::Setting(statement) => Prepared::Setting(statement),
            Allowed::Transaction(statement) => Prepared::Transaction(statement),
            Allowed::Nothing(tag) => Prepared::Nothing(tag),
        }))
    }

    fn get_parameter_types(&self, prepared: &Prepared) -> PgWireResult<Vec<Type>> {
        match prepared {
            Prepared::Query(planned) => self.0.types.of_parameters(planned),
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
        Prepared::Query(planned) => planned.plan.schema().as_arrow().clone(),
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
fn parameter_types(plan: &LogicalPlan) -> PgWireResult<Vec<Option<DataType>>> {
    let wrong = |error: datafusion::error::DataFusionError| told(error.into());
    let mut types: BTreeMap<u32, Option<DataType>> = BTreeMap::new();
    let number = |id: &str| id.trim_start_matches('$').parse().unwrap_or(u32::MAX);
    for (id, known) in plan.get_parameter_types().map_err(wrong)? {
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
    })
    .map_err(wrong)?;
    Ok(types.into_values().collect())
}

impl Handler {
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
            Prepared::Query(planned) => {
                let known = parameter_types(&planned.plan)?;
                let known: Vec<Option<&DataType>> = known.iter().map(Option::as_ref).collect();
                let wire = self.types.of_parameters(planned)?;
                let wire: Vec<Option<&Type>> = wire.iter().map(Some).collect();
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
                let asked = self.ask(client);
                let statement = planned.statement.clone();
                let answer = self
                    .engine
                    .answer(statement, parameters, &asked)
                    .await
                    .map_err(told)?;
                rows(answer, &portal.result_column_format, client)
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
                client.portal_store().put_portal(Arc::new(portal));
            }
            Some(Entry::Empty) => {
                let portal = message.portal_name.as_deref().unwrap_or(UNNAMED);
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
