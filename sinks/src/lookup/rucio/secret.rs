//! Passwords: read when they are needed, never shown.

use super::super::LookUpError;
use reqwest::header::HeaderValue;
use std::{io, path::Path};

/// The first line of the file at `path`; `what` it is, for the error.
pub(super) fn from_file(path: &Path, what: &'static str) -> Result<HeaderValue, LookUpError> {
    let place = format!("file `{}`", path.display());
    let text = std::fs::read_to_string(path);
    secret(
        text.map(|text| text.lines().next().unwrap_or_default().to_owned()),
        what,
        place,
    )
}

/// The variable `name` of the environment.
pub(super) fn from_environment(name: &str, what: &'static str) -> Result<HeaderValue, LookUpError> {
    let value = std::env::var(name).map_err(|error| io::Error::new(io::ErrorKind::NotFound, error));
    secret(value, what, format!("environment variable `{name}`"))
}

/// As the value of a header that logs do not show.
fn secret(text: io::Result<String>, what: &'static str, place: String) -> Result<HeaderValue, LookUpError> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
    let value = text.and_then(|text| match HeaderValue::from_bytes(text.as_bytes()) {
        Ok(_) if text.is_empty() => Err(wrong("it is empty")),
        Ok(value) => Ok(value),
        Err(_) => Err(wrong("it has characters that cannot be sent")),
    });
    match value {
        Ok(mut value) => {
            value.set_sensitive(true);
            Ok(value)
        }
        Err(source) => Err(LookUpError::Secret { what, place, source }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_secret_is_the_first_line_of_its_file_and_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "open sesame\n").unwrap();
        let secret = from_file(&path, "the password").unwrap();
        assert_eq!(secret.as_bytes(), b"open sesame");
        assert_eq!(format!("{secret:?}"), "Sensitive");
    }

    #[test]
    fn a_secret_that_is_not_there_is_named_with_its_place() {
        let missing = from_file(Path::new("/nowhere/password"), "the password").unwrap_err();
        assert_eq!(
            missing.to_string(),
            "could not read the password from file `/nowhere/password`"
        );
        let missing = from_environment("DBB_NO_SUCH_VARIABLE", "the password").unwrap_err();
        assert_eq!(
            missing.to_string(),
            "could not read the password from environment variable `DBB_NO_SUCH_VARIABLE`"
        );
    }
}
