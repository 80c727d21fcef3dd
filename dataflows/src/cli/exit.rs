//! How the program ends: the status a script sees, and what a person reads.

use crate::{
    checkpoint::CheckpointError,
    cluster::{self, ClusterError},
    config::ConfigError,
    runtime::Failure,
};
use dbb_operators::mapping::MappingError;
use dbb_serving::ServeError;
use dbb_sinks::{butler::ButlerError, ledger::LedgerError, lookup::LookUpError, topics::TopicsError};
use dbb_sources::SourceError;
use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

/// An exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Ok,
    /// It worked, and problems were found: dead letters, files that cannot be routed.
    Problems,
    /// The command line makes no sense.
    Usage,
    /// What was asked is not known.
    Unknown,
    /// A service does not answer; the same may work later (`EX_UNAVAILABLE`).
    Unreachable,
    /// Another process of the cluster is missing, another dbb holds the ledger, or the ledger is not what it was: start
    /// again (`EX_TEMPFAIL`).
    StartAgain,
    /// Someone must change something first: a supervisor should not try again (`EX_CONFIG`).
    Configuration,
}

impl Exit {
    /// The status.
    pub fn status(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Problems => 1,
            Exit::Usage => 2,
            Exit::Unknown => 3,
            Exit::Unreachable => 69,
            Exit::StartAgain => cluster::STATUS,
            Exit::Configuration => 78,
        }
    }

    /// How `error` ends the program: the first of its causes that says decides.
    pub fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(of_cause).unwrap_or(Exit::Problems)
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.status().into()
    }
}

/// A subcommand cannot do what it was asked, and knows what would help.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Told {
    /// How the program ends.
    pub exit: Exit,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Told {
    /// An error that ends the program with `exit`.
    pub fn new(exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if cause.is::<ConfigError>() || cause.is::<MappingError>() {
        return Some(Exit::Configuration);
    }
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(match failure {
            // Started again it would take the ledger back, and so on for ever.
            Failure::TakenOver(_) => Exit::Configuration,
            Failure::Fault(_) => Exit::Problems,
            Failure::StartAgain(_) => Exit::StartAgain,
        });
    }
    if let Some(told) = cause.downcast_ref::<Told>() {
        return Some(told.exit);
    }
    if let Some(error) = cause.downcast_ref::<ClusterError>() {
        return Some(if error.is_transient() {
            Exit::StartAgain
        } else {
            Exit::Configuration
        });
    }
    let transient = |yes| {
        if yes {
            Exit::Unreachable
        } else {
            Exit::Configuration
        }
    };
    if let Some(error) = cause.downcast_ref::<SourceError>() {
        return match error {
            error if error.is_partial() => Some(Exit::Problems),
            other => Some(transient(other.is_transient())),
        };
    }
    if let Some(error) = cause.downcast_ref::<TopicsError>() {
        return match error {
            TopicsError::Stopped | TopicsError::SentLog { .. } => Some(Exit::Problems),
            other => Some(transient(other.is_transient())),
        };
    }
    if let Some(error) = cause.downcast_ref::<LookUpError>() {
        return Some(transient(error.is_transient()));
    }
    if let Some(error) = cause.downcast_ref::<ServeError>() {
        return Some(transient(error.is_transient()));
    }
    if let Some(error) = cause.downcast_ref::<CheckpointError>() {
        return Some(match error {
            CheckpointError::Damaged { .. } | CheckpointError::Rows(_) | CheckpointError::Encode { .. } => {
                Exit::Problems
            }
            other => transient(other.is_transient()),
        });
    }
    if let Some(error) = cause.downcast_ref::<LedgerError>() {
        return Some(match error {
            LedgerError::Failed { .. } => Exit::Problems,
            // It may leave any moment: whoever watches over this one tries again.
            LedgerError::Held { .. } => Exit::StartAgain,
            LedgerError::Replaced { .. } => Exit::StartAgain,
            // `Fenced` too: started again it would take the ledger back, and so on for ever.
            other => transient(other.is_transient()),
        });
    }
    if let Some(error) = cause.downcast_ref::<ButlerError>() {
        return Some(match error {
            ButlerError::Settings { .. } | ButlerError::Start { .. } | ButlerError::Open { .. } => {
                Exit::Configuration
            }
            ButlerError::Down { .. } | ButlerError::Hung { .. } => Exit::Unreachable,
            _ => Exit::Problems,
        });
    }
    None
}

/// What to do about `error`, where that is known.
fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(told) = cause.downcast_ref::<Told>() {
            return Some(told.hint.clone());
        }
        if let Some(error) = cause.downcast_ref::<ClusterError>() {
            return Some(error.hint());
        }
        match cause.downcast_ref::<LedgerError>() {
            Some(LedgerError::Fenced { .. }) => {
                Some("run one dbb on a ledger; look for the other with `ps`".into())
            }
            Some(LedgerError::Held { .. }) => Some(
                "one dbb works on a ledger: stop the other, or take its place with `dbb run --take-over`"
                    .into(),
            ),
            _ => None,
        }
        .or_else(|| match cause.downcast_ref::<ServeError>() {
            Some(ServeError::Bind { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => Some(
                "another program, perhaps another dbb, listens there: set http.listen to a free port".into(),
            ),
            _ => None,
        })
        .or_else(|| match cause.downcast_ref::<ButlerError>() {
            Some(ButlerError::Start { .. }) => {
                Some("set worker.command of the repository to the Python of the site's stack".into())
            }
            _ => None,
        })
    })
}

/// What a person reads of `error`: `error: ...`, its causes, and a hint.
pub fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    if let Some(config) = error.downcast_ref::<ConfigError>() {
        for problem in &config.problems {
            // A string cannot fail to take more.
            let _ = writeln!(text, "error: {problem}");
            if let Some(hint) = &problem.hint {
                let _ = writeln!(text, "hint: {hint}");
            }
        }
        return text;
    }
    let _ = writeln!(text, "error: {error}");
    for cause in error.chain().skip(1) {
        let _ = writeln!(text, "  caused by: {cause}");
    }
    if let Some(hint) = hint(error) {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

/// Writes `error` to standard error.
pub fn report(error: &anyhow::Error) -> Exit {
    // Nothing is left to tell of a standard error that cannot be written.
    let _ = io::stderr().lock().write_all(message(error).as_bytes());
    Exit::of(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Origin, Problem};
    use anyhow::{Context, anyhow};

    fn unreachable() -> SourceError {
        SourceError::Unreachable {
            what: "broker a:9092".into(),
            detail: "connection refused".into(),
        }
    }

    #[test]
    fn the_status_is_that_of_the_cause_whatever_is_wrapped_around_it() {
        let wrapped = Err::<(), _>(unreachable()).context("could not start").err();
        assert_eq!(wrapped.map(|e| Exit::of(&e)), Some(Exit::Unreachable));
        let fenced = anyhow!(LedgerError::Fenced { ours: 1, newest: 2 });
        assert_eq!(Exit::of(&fenced), Exit::Configuration);
        let held = anyhow!(LedgerError::Held {
            what: "sqlite:x".into(),
            host: "h".into(),
            pid: 1,
            since: Default::default(),
        });
        assert_eq!(Exit::of(&held), Exit::StartAgain);
        assert_eq!(Exit::of(&anyhow!("something")), Exit::Problems);
        let config = ConfigError::from(Problem::new("x", Origin::Default, "is wrong"));
        assert_eq!(Exit::of(&config.into()), Exit::Configuration);
    }

    #[test]
    fn an_error_is_told_with_its_causes_and_a_hint() {
        let source = io::Error::from(io::ErrorKind::AddrInUse);
        let error = anyhow!(ServeError::Bind {
            listen: "127.0.0.1:9327".into(),
            source
        })
        .context("could not start");
        assert_eq!(
            message(&error),
            "error: could not start\n  \
             caused by: could not listen on `127.0.0.1:9327` for health and metrics\n  \
             caused by: address in use\n\
             hint: another program, perhaps another dbb, listens there: set http.listen to a free port\n"
        );
    }

    #[test]
    fn every_problem_of_a_configuration_has_its_own_hint() {
        let problem = Problem::new("a.b", Origin::Environment("DBB_A__B".into()), "unknown key");
        let problems = vec![problem.clone().hint("did you mean `a.c`?"), problem];
        assert_eq!(
            message(&ConfigError { problems }.into()),
            "error: environment variable DBB_A__B: `a.b`: unknown key\nhint: did you mean `a.c`?\n\
             error: environment variable DBB_A__B: `a.b`: unknown key\n"
        );
    }
}
