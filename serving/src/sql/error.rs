//! Why a statement has no answer, as the client hears it.

use datafusion::{common::SchemaError, error::DataFusionError};
use dbb_operators::views::Unread;
use std::time::Duration;

/// A statement has no answer, or no more of it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SqlError {
    /// The text is no SQL.
    #[error("{0}")]
    Syntax(String),
    /// Something else than a query.
    #[error("{what} is refused: views can be asked, not changed; only queries are served here")]
    NotAQuery {
        /// The first word or words of it.
        what: String,
    },
    /// A query, but of a kind that is not served.
    #[error("{0}")]
    NotServed(String),
    /// No such table, column or function, or it cannot be used so.
    #[error("{message}")]
    Wrong {
        /// The SQLSTATE.
        state: &'static str,
        /// What is wrong.
        message: String,
    },
    /// Nothing has been published.
    #[error(
        "view `{view}` is not published yet: the dataflow has not closed its first epoch; ask again in a moment"
    )]
    NotPublished {
        /// The view.
        view: String,
    },
    /// It took too long.
    #[error("canceling statement due to statement timeout: it took longer than {} ms; ask for less, or raise `statement_timeout_ms`", .0.as_millis())]
    TooLong(Duration),
    /// The client, or the end of the program, wanted no more of it.
    #[error("canceling statement due to user request")]
    Cancelled,
    /// The answer is too long.
    #[error("the answer has more than {max} rows; ask for less, add a limit, or raise `max_rows`")]
    TooManyRows {
        /// The rows that are allowed.
        max: u64,
    },
    /// It needs too much memory.
    #[error(
        "the statement needs more memory than it may have; ask for less, or raise `statement_memory_mib` and `memory_mib`: {0}"
    )]
    TooMuchMemory(String),
    /// It is too long or too deep to be planned.
    #[error("{message}")]
    TooComplex {
        /// The SQLSTATE.
        state: &'static str,
        /// Which limit it is beyond.
        message: String,
    },
    /// A library failed over it in a way that it does not say.
    #[error(
        "the statement cannot be answered: a function or operator in it failed ({0}); ask in another way"
    )]
    Panicked(String),
    /// Another process of the cluster has some of the rows, and does not give them.
    #[error(transparent)]
    Unread(#[from] Unread),
    /// Something went wrong while it ran.
    #[error("{0}")]
    Failed(String),
}

impl SqlError {
    /// The SQLSTATE.
    pub fn state(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "42601",
            Self::NotAQuery { .. } => "25006",
            Self::NotServed(_) => "0A000",
            Self::Wrong { state, .. } => state,
            Self::NotPublished { .. } => "55000",
            Self::TooLong(_) | Self::Cancelled => "57014",
            Self::TooManyRows { .. } => "54000",
            Self::TooMuchMemory(_) => "53200",
            Self::Unread(_) => "58030",
            Self::TooComplex { state, .. } => state,
            Self::Failed(_) | Self::Panicked(_) => "XX000",
        }
    }

    /// The word of the metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Syntax(_) | Self::Wrong { .. } => "wrong",
            Self::NotAQuery { .. } | Self::NotServed(_) => "refused",
            Self::NotPublished { .. } => "not_published",
            Self::TooLong(_) => "timed_out",
            Self::Cancelled => "cancelled",
            Self::TooManyRows { .. } => "too_many_rows",
            Self::TooMuchMemory(_) => "too_much_memory",
            Self::TooComplex { .. } => "too_complex",
            Self::Panicked(_) => "panicked",
            Self::Unread(_) | Self::Failed(_) => "failed",
        }
    }
}

impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        Self::External(Box::new(error))
    }
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        Self::from(&error)
    }
}

impl From<&DataFusionError> for SqlError {
    fn from(error: &DataFusionError) -> Self {
        let wrong = |state, message: &dyn ToString| Self::Wrong {
            state,
            message: message.to_string(),
        };
        match error {
            DataFusionError::External(source) => match source.downcast_ref::<Self>() {
                Some(ours) => ours.clone(),
                None => Self::Failed(source.to_string()),
            },
            DataFusionError::Context(_, source) | DataFusionError::Diagnostic(_, source) => {
                (&**source).into()
            }
            DataFusionError::Shared(source) => (&**source).into(),
            DataFusionError::Collection(all) if !all.is_empty() => (&all[0]).into(),
            DataFusionError::SQL(source, _) => Self::Syntax(source.to_string()),
            DataFusionError::NotImplemented(message) => Self::NotServed(message.clone()),
            DataFusionError::ResourcesExhausted(message) => Self::TooMuchMemory(first_line(message)),
            DataFusionError::SchemaError(source, _) => {
                let state = match **source {
                    SchemaError::FieldNotFound { .. } => "42703",
                    SchemaError::AmbiguousReference { .. } => "42702",
                    _ => "42701",
                };
                wrong(state, source)
            }
            DataFusionError::Plan(message) if message.starts_with("table '") => wrong("42P01", message),
            DataFusionError::Plan(message) if message.contains("nvalid function") => wrong("42883", message),
            DataFusionError::Plan(message) => wrong("42000", message),
            DataFusionError::ArrowError(source, _) => match **source {
                arrow::error::ArrowError::DivideByZero => wrong("22012", source),
                _ => wrong("22000", source),
            },
            DataFusionError::Execution(message) => wrong("22000", message),
            other => Self::Failed(first_line(&other.to_string())),
        }
    }
}

/// Without a backtrace or a table of who holds memory.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}
