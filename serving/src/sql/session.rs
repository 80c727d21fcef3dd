//! What a statement is planned in: the functions and catalogue tables, which stay, and one epoch's views, which do not.

use super::{
    SqlError, as_of::AsOf, functions, guarded::Guarded, running::Running, statements::Statements,
    tables::Pinned, watched::BATCH_ROWS,
};
use crate::Offered;
use datafusion::{
    catalog::{
        CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
        SchemaProvider,
    },
    config::Dialect,
    error::Result,
    execution::{SessionState, SessionStateBuilder, context::SessionContext, registry::FunctionRegistry},
    prelude::SessionConfig,
};
use datafusion_postgres::datafusion_pg_catalog::{
    pg_catalog::context::EmptyContextProvider, setup_pg_catalog,
};
use dbb_operators::publish::Published;
use std::sync::Arc;

/// The catalogue, which clients call the database.
const DATABASE: &str = "dbb";
/// The schema of the views.
const PUBLIC: &str = "public";
/// The schema of PostgreSQL's catalogue.
const PG_CATALOG: &str = "pg_catalog";

/// Made once; each statement has a copy with its own epoch.
pub(super) struct Sessions {
    template: SessionState,
    pg_catalog: Arc<dyn SchemaProvider>,
    offered: Arc<[Offered]>,
}

impl Sessions {
    /// For these views, and the statements that run.
    pub(super) fn new(offered: Arc<[Offered]>, running: Arc<Running>) -> Result<Self, SqlError> {
        let views = catalog_list(pinned(None, &offered), None)?;
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(DATABASE, PUBLIC)
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true)
            // One statement is one thread's work: several run beside each other, and beside the dataflow.
            .with_target_partitions(1)
            .with_batch_size(BATCH_ROWS);
        let options = config.options_mut();
        options.sql_parser.dialect = Dialect::PostgreSQL;
        options.execution.enable_recursive_ctes = false;
        let state = SessionStateBuilder::new_with_default_features()
            .with_config(config)
            .with_catalog_list(Arc::clone(&views))
            .build();
        let context = SessionContext::new_with_state(state);
        setup_pg_catalog(&context, DATABASE, EmptyContextProvider).map_err(|error| SqlError::from(*error))?;
        for function in functions::all(&running) {
            context.register_udf(function);
        }
        context.register_udtf("statements", Arc::new(Statements(running)));
        let mut template = context.state();
        let all: Vec<_> = template.scalar_functions().values().cloned().collect();
        for function in all {
            template.register_udf(Guarded::of(function))?;
        }
        let pg_catalog = views
            .catalog(DATABASE)
            .and_then(|database| database.schema(PG_CATALOG))
            .ok_or_else(|| SqlError::Failed("there is no catalogue".into()))?;
        Ok(Self {
            template,
            pg_catalog,
            offered,
        })
    }

    /// For one statement, which sees `published` and nothing newer.
    pub(super) fn session(&self, published: Option<Arc<Published>>) -> Result<SessionState, SqlError> {
        let mut state = self.template.clone();
        // Else `now()` is the time at which this was made.
        state.mark_start_execution();
        let views = pinned(published.clone(), &self.offered);
        state.register_catalog_list(catalog_list(views, Some(&self.pg_catalog))?);
        state.register_udtf("as_of", Arc::new(AsOf(published)));
        Ok(state)
    }
}

fn pinned(published: Option<Arc<Published>>, offered: &Arc<[Offered]>) -> Arc<dyn SchemaProvider> {
    Arc::new(Pinned {
        published,
        offered: Arc::clone(offered),
    })
}

fn catalog_list(
    views: Arc<dyn SchemaProvider>,
    pg_catalog: Option<&Arc<dyn SchemaProvider>>,
) -> Result<Arc<dyn CatalogProviderList>, SqlError> {
    let database = MemoryCatalogProvider::new();
    database.register_schema(PUBLIC, views)?;
    if let Some(pg_catalog) = pg_catalog {
        database.register_schema(PG_CATALOG, Arc::clone(pg_catalog))?;
    }
    let list = MemoryCatalogProviderList::new();
    list.register_catalog(DATABASE.into(), Arc::new(database));
    Ok(Arc::new(list))
}
