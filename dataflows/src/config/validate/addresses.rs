//! Where others are listened to.

use super::Check;
use crate::config::Config;

impl Check<'_> {
    pub(super) fn cluster(&mut self, config: &Config) {
        let cluster = &config.cluster;
        self.address("cluster.listen", cluster.listen.as_deref(), "0.0.0.0:2101");
        for (key, value) in [
            ("connect_seconds", cluster.connect_seconds),
            ("patience_seconds", cluster.patience_seconds),
        ] {
            if value == 0 {
                self.error(&format!("cluster.{key}"), "must be 1 or more, not 0");
            }
        }
    }

    pub(super) fn http(&mut self, config: &Config) {
        self.address("http.listen", config.http.listen.as_deref(), "127.0.0.1:9327");
        let http = &config.http;
        if !(1..=10_000).contains(&http.max_connections) {
            let message = format!("must be 1 to 10000, not {}", http.max_connections);
            self.error("http.max_connections", message);
        }
        if http.idle_timeout_ms == 0 {
            self.error("http.idle_timeout_ms", "must be 1 or more, not 0");
        }
        for (i, host) in http.hosts.iter().enumerate() {
            if host.is_empty() || host.contains(['/', ' ']) {
                let message = format!("`{host}` is no name of a host");
                self.error(&format!("http.hosts[{i}]"), message).hint =
                    Some("write `dbb.example.org`, without scheme and port".into());
            }
        }
        let sql = &config.sql;
        self.address("sql.listen", sql.listen.as_deref(), "127.0.0.1:5433");
        if sql.listen.is_none() {
            return;
        }
        if !config.views.are_kept() {
            let hint = "write `views: {keep: [all]}`";
            self.error("sql.listen", "no views are kept that could be asked for")
                .hint = Some(hint.into());
        }
        let ranges = [
            ("max_connections", u64::from(sql.max_connections), 10_000),
            ("statement_timeout_ms", sql.statement_timeout_ms, u64::MAX),
            ("idle_timeout_ms", sql.idle_timeout_ms, u64::MAX),
            ("max_rows", sql.max_rows, u64::MAX),
            (
                "statement_memory_mib",
                u64::from(sql.statement_memory_mib),
                u64::MAX,
            ),
            ("memory_mib", u64::from(sql.memory_mib), u64::MAX),
            ("threads", u64::from(sql.threads), 1000),
        ];
        for (key, value, most) in ranges {
            if value == 0 || value > most {
                let most = if most == u64::MAX {
                    "or more".into()
                } else {
                    format!("to {most}")
                };
                self.error(&format!("sql.{key}"), format!("must be 1 {most}, not {value}"));
            }
        }
    }

    fn address(&mut self, path: &str, listen: Option<&str>, example: &str) {
        let Some(listen) = listen else { return };
        let port = listen
            .rsplit_once(':')
            .and_then(|(host, port)| (!host.is_empty()).then_some(port));
        if port.and_then(|p| p.parse::<u16>().ok()).is_none() {
            let message = format!("`{listen}` is no address and port");
            self.error(path, message).hint = Some(format!("write `{example}`, or null for none"));
        }
    }
}
