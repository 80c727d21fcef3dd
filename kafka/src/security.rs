//! Security: how to speak to the brokers, and as whom.

use crate::BadSettings;
use rdkafka::ClientConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fs, path::PathBuf};

/// Encryption and login.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// How to speak to the brokers.
    pub protocol: Protocol,
    /// Certificates of the authorities to trust, PEM; the system's without it.
    pub ca_file: Option<PathBuf>,
    /// This client's certificate, PEM.
    pub certificate_file: Option<PathBuf>,
    /// The key of that certificate, PEM, not encrypted.
    pub key_file: Option<PathBuf>,
    /// How the password is shown to the broker.
    pub mechanism: Option<Mechanism>,
    /// The user.
    pub username: Option<String>,
    /// A file that holds the password and nothing else.
    pub password_file: Option<PathBuf>,
}

/// How to speak to the brokers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// In the clear, as anybody.
    #[default]
    Plaintext,
    /// Encrypted; as the owner of the client certificate, if one is given.
    Ssl,
    /// In the clear, with a password.
    SaslPlaintext,
    /// Encrypted, with a password.
    SaslSsl,
}

/// How the password is shown to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mechanism {
    /// As it is.
    #[serde(rename = "PLAIN")]
    Plain,
    /// By challenge and response.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// By challenge and response.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Security {
    /// Puts it into a client's configuration.
    ///
    /// # Errors
    ///
    /// What is missing, or a file that cannot be read.
    pub fn apply(&self, config: &mut ClientConfig) -> Result<(), BadSettings> {
        let (protocol, login) = match self.protocol {
            Protocol::Plaintext => ("plaintext", false),
            Protocol::Ssl => ("ssl", false),
            Protocol::SaslPlaintext => ("sasl_plaintext", true),
            Protocol::SaslSsl => ("sasl_ssl", true),
        };
        config.set("security.protocol", protocol);
        let files = [
            ("ssl.ca.location", &self.ca_file),
            ("ssl.certificate.location", &self.certificate_file),
            ("ssl.key.location", &self.key_file),
        ];
        for (name, file) in files {
            if let Some(file) = file {
                fs::metadata(file).map_err(|error| {
                    BadSettings::new(format!("cannot read `{}`: {error}", file.display()))
                })?;
                config.set(name, file.display().to_string());
            }
        }
        if !login {
            return Ok(());
        }
        let (Some(mechanism), Some(username), Some(file)) =
            (self.mechanism, &self.username, &self.password_file)
        else {
            return Err(BadSettings::new(format!(
                "kafka security {protocol} needs mechanism, username and password_file"
            )));
        };
        let password = fs::read_to_string(file).map_err(|error| {
            BadSettings::new(format!(
                "cannot read the password in `{}`: {error}",
                file.display()
            ))
        })?;
        config
            .set("sasl.mechanisms", mechanism.as_str())
            .set("sasl.username", username)
            .set("sasl.password", password.trim_end_matches(['\r', '\n']));
        Ok(())
    }
}

impl Mechanism {
    fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}
