//! Hosts: the names by which this server may be asked where it asks for no token.
//!
//! A web page may give its own name an address of this host, and then read what the browser of somebody here gets from it.
//! What the browser cannot change is the name in `Host`. So where nothing else protects what is served, only names of this
//! host count. Probes answer to any name: those of Kubernetes use addresses that nobody here knows, and they tell nothing
//! but whether it is well.

use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::Response,
};
use std::{net::IpAddr, sync::Arc};

/// Names that count.
#[derive(Debug)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    /// The host of the address that is listened on, and those that are named.
    pub(super) fn of(listen: &str, named: &[String]) -> Arc<Self> {
        let names = named.iter().map(String::as_str).chain([host(listen)]);
        Arc::new(Self(names.map(plain).collect()))
    }

    /// True for a value of `Host` by which this host may be asked.
    fn knows(&self, value: &str) -> bool {
        let name = plain(host(value));
        let is_here = name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        is_here || self.0.contains(&name)
    }
}

/// `host:port` without its port.
fn host(value: &str) -> &str {
    match value.rsplit_once(':') {
        // Not within an IPv6 address.
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => value,
    }
}

fn plain(name: &str) -> String {
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Refuses a request that is asked by a name which is not this host's.
pub(super) async fn by_a_known_name(
    State(hosts): State<Arc<Hosts>>,
    request: Request,
    next: Next,
) -> Response {
    let of_uri = request.uri().host().map(|host| host.to_owned());
    let named = request.headers().get_all(header::HOST).iter();
    let named = named.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    // Without any it is no browser.
    let stranger = of_uri.into_iter().chain(named).find(|name| !hosts.knows(name));
    match stranger {
        None => next.run(request).await,
        Some(name) => {
            let name: String = name.chars().take(200).collect();
            crate::http::refusal(
                StatusCode::MISDIRECTED_REQUEST,
                format!(
                    "`{name}` is no name of this host that is known here: ask by `localhost`, or add the name to `http.hosts`"
                ),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_host_are_known_and_others_are_not() {
        let hosts = Hosts::of("127.0.0.1:9327", &["Views.Example.org".into()]);
        for name in [
            "localhost",
            "LOCALHOST:9327",
            "127.0.0.1:9327",
            "127.8.0.1",
            "[::1]:9327",
            "[::1]",
            "views.example.org.:80",
        ] {
            assert!(hosts.knows(name), "{name}");
        }
        for name in [
            "evil.example.org",
            "localhost.evil.example.org",
            "127.0.0.1.evil.example.org:9327",
            "10.0.0.1:9327",
            "[2001:db8::1]:9327",
            "",
            "localhost:x",
        ] {
            assert!(!hosts.knows(name), "{name}");
        }
        assert!(Hosts::of("[2001:db8::1]:80", &[]).knows("[2001:db8::1]:9327"));
    }
}
