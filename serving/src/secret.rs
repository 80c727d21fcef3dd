//! Passwords and tokens: never in the configuration itself, compared without telling how much is right.

use crate::ServeError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf};
use subtle::ConstantTimeEq;

/// Where a secret is: in a file, or in a variable of the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretPlace {
    /// The file whose first line it is.
    File(PathBuf),
    /// The variable of the environment.
    Env(String),
}

impl SecretPlace {
    /// Reads it; `what` it is, for the error.
    ///
    /// # Errors
    ///
    /// It is not there, or empty.
    pub fn read(&self, what: &str) -> Result<Secret, ServeError> {
        let (place, found) = match self {
            Self::File(path) => {
                let first_line = |text: String| text.lines().next().unwrap_or_default().to_owned();
                let place = format!("file `{}`", path.display());
                (place, std::fs::read_to_string(path).map(first_line))
            }
            Self::Env(name) => {
                let missing = |error| std::io::Error::new(std::io::ErrorKind::NotFound, error);
                let place = format!("environment variable `{name}`");
                (place, std::env::var(name).map_err(missing))
            }
        };
        let wrong = |source| ServeError::Secret {
            what: what.to_owned(),
            place: place.clone(),
            source,
        };
        match found.map_err(wrong)? {
            secret if secret.is_empty() => Err(wrong(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "it is empty",
            ))),
            secret => Ok(Secret(secret)),
        }
    }
}

/// A secret, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `offered` is it; takes as long for any of its length.
    pub fn is(&self, offered: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(offered).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_secret_is_the_first_line_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "open sesame\n").unwrap();
        let secret = SecretPlace::File(path).read("the token").unwrap();
        assert!(secret.is(b"open sesame"));
        assert!(!secret.is(b"open sesam") && !secret.is(b"open sesame\n") && !secret.is(b""));
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    #[test]
    fn a_secret_that_is_not_there_is_named_with_its_place() {
        let error = SecretPlace::File("/nowhere/token".into())
            .read("the token")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not read the token from file `/nowhere/token`"
        );
        let error = SecretPlace::Env("DBB_NO_SUCH_VARIABLE".into())
            .read("the token")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not read the token from environment variable `DBB_NO_SUCH_VARIABLE`"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "\n").unwrap();
        assert!(SecretPlace::File(path).read("the token").is_err());
    }
}
