//! Words: what librdkafka says, in our log.

use rdkafka::config::RDKafkaLogLevel;
use tracing::{debug, error, info, warn};

/// Passes a line of the client's log on.
pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            error!(facility, "{message}")
        }
        // Connections that break are its errors: it mends them itself.
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => warn!(facility, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => info!(facility, "{message}"),
        RDKafkaLogLevel::Debug => debug!(facility, "{message}"),
    }
}
