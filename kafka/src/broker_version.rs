//! Which Kafka a broker is, as far as its settings tell: the protocol has no word for it.

use futures::executor::block_on;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
    error::KafkaError,
};
use std::time::Duration;

/// The version that brokers speak among themselves; brokers have this setting up to Kafka 3.9.
const SETTING: &str = "inter.broker.protocol.version";

/// What each broker tells of its version, by its address.
///
/// # Errors
///
/// No broker has answered within `limit`.
pub fn broker_versions(config: &ClientConfig, limit: Duration) -> Result<Vec<(String, String)>, KafkaError> {
    let client: AdminClient<DefaultClientContext> = config.create()?;
    let metadata = client.inner().fetch_metadata(None, limit)?;
    let options = AdminOptions::new().request_timeout(Some(limit));
    let told = metadata.brokers().iter().map(|broker| {
        let asked = block_on(client.describe_configs([&ResourceSpecifier::Broker(broker.id())], &options));
        let version = match asked.ok().and_then(|mut answers| answers.pop()) {
            Some(Ok(settings)) => match settings.get(SETTING).and_then(|entry| entry.value.as_deref()) {
                // `3.9-IV0` is a step on the way to 3.9.
                Some(version) => version.split('-').next().unwrap_or(version).to_owned(),
                None => "4.0 or later".into(),
            },
            Some(Err(code)) => format!("of a version that this user may not ask for ({code})"),
            None => "of a version that it does not tell".into(),
        };
        (format!("{}:{}", broker.host(), broker.port()), version)
    });
    Ok(told.collect())
}
