//! STOMP: messages of brokers, acknowledged when their events have outcomes.
//!
//! ```text
//!   brokers <--> link each, on one thread --> queue --> its worker
//!                   ^                                      |
//!                   +------ acknowledgements, good-bye <---+
//! ```
//!
//! In:    a topic, by a durable subscription, or a queue, at each of several brokers.
//! Out:   messages in the order in which a broker delivers them; broker b goes to worker (hash of its stream) mod
//!        workers.
//! State: of each broker the messages that have no outcome, at most `max_in_flight_bytes` and one more, whatever it sends;
//!        the names of those that are not acknowledged, and of as many that are.
//!
//! The stream is `stomp:HOST:PORT/DESTINATION`. Offsets number what was delivered in this session, from the time at which
//! it began in microseconds, or from what an earlier one came to: so none is ever used twice, and none can be
//! asked for again. A message that is delivered again by this session's next connection keeps its offset and
//! is not emitted again; one that the next session gets is, and is recognised by the identity of its event.
//!
//! The protocol is spoken by a small module of our own ([`frame`], [`session`]): of the libraries for it those that know
//! TLS and heart-beats have a licence (EUPL) that does not go with this program's.

mod flight;
pub mod frame;
mod lane;
mod link;
mod session;
mod settings;
mod status;
mod worker;

pub use settings::{Ack, StompSecurity, StompSettings};
pub use status::{BrokerStatus, StompStatistics};

use crate::{Extent, Offsets, Partition, Source, SourceError, tls};
use flight::Flight;
use link::{Desk, Given, Handle, Link};
use session::{Broker, Session, Terms};
use settings::wrong;
use status::Board;
use std::{
    net::{SocketAddr, ToSocketAddrs},
    ops::Range,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::runtime::{Builder, Runtime};
use worker::StompSource;
use xxhash_rust::xxh3::xxh3_64;

/// Longest that the first broker may take to answer.
const FIRST: Duration = Duration::from_secs(20);

/// One source for each of `workers`, which are some of `peers` workers in all, and how the brokers are doing. Offsets
/// begin above those that `known` has of a stream.
///
/// # Errors
///
/// [`SourceError::Configuration`] for settings that cannot work, or if each broker that answers refuses the login or
/// the subscription; [`SourceError::Unreachable`] if none answers within 20 s. One that answers is enough: the
/// others are tried again and again.
pub fn open(
    settings: &StompSettings,
    workers: Range<usize>,
    peers: usize,
    extent: Extent,
    known: &Offsets,
) -> Result<(Vec<Box<dyn Source>>, StompStatistics), SourceError> {
    let terms = terms(settings)?;
    let board = Board::default();
    let (mut desks, mut sources) = (Vec::new(), Vec::<Box<dyn Source>>::new());
    for _ in workers.clone() {
        let (given, receiver) = crossbeam_channel::unbounded();
        let waker = Arc::new(Mutex::new(None));
        let known = known.clone();
        let first = move |stream: &str| {
            let partition = Partition {
                stream: stream.into(),
                partition: 0,
            };
            now_micros().max(known.get(&partition).copied().unwrap_or(0))
        };
        sources.push(Box::new(StompSource::new(
            receiver,
            Arc::clone(&waker),
            board.clone(),
            Box::new(first),
            settings.prefetch,
            extent.once,
        )));
        desks.push(Desk { given, waker });
    }
    let mut links = Vec::new();
    for broker in addresses(settings) {
        let stream = stream(&broker, settings);
        // By name: processes that look an address up at different times agree.
        let worker = (xxh3_64(stream.as_bytes()) % peers.max(1) as u64) as usize;
        if !workers.contains(&worker) {
            continue;
        }
        let desk = desks[worker - workers.start].clone();
        let number = board.add(Arc::clone(&stream));
        let (orders, ordered) = tokio::sync::mpsc::unbounded_channel();
        let flight = Arc::new(Flight::of(settings.max_in_flight_bytes));
        desk.give(Given::Link(Arc::new(Handle {
            number,
            stream,
            orders,
            flight: Arc::clone(&flight),
        })));
        links.push(Link {
            number,
            broker,
            terms: Arc::clone(&terms),
            orders: ordered,
            flight,
            desk,
            board: board.clone(),
        });
    }
    let runtime = runtime()?;
    let spawned = thread::Builder::new().name("stomp".into()).spawn(move || {
        runtime.block_on(async {
            let links: Vec<_> = links.into_iter().map(|link| tokio::spawn(link.run())).collect();
            for link in links {
                if link.await.is_err() {
                    tracing::error!("what reads a broker ended by a fault of this program");
                }
            }
        });
    });
    spawned.map_err(|error| wrong(format_args!("no thread: {error}")))?;
    first(settings, &board)?;
    Ok((sources, StompStatistics(board)))
}

/// A broker, and whether it lets us in.
pub type Answer = (String, Result<Option<String>, SourceError>);

/// Connects to each broker and leaves again; nothing is subscribed to. What each answers.
///
/// # Errors
///
/// [`SourceError::Configuration`] for settings that cannot work.
pub fn check(settings: &StompSettings) -> Result<Vec<Answer>, SourceError> {
    let mut settings = settings.clone();
    // A running dbb has the name.
    settings.client_id = format!("{}-check-{}", settings.client_id, std::process::id());
    let terms = terms(&settings)?;
    let runtime = runtime()?;
    let tried = addresses(&settings).into_iter().map(|broker| {
        let tried = runtime.block_on(async {
            let mut session = Session::connect(&broker, &terms).await?;
            let server = session.server().map(str::to_owned);
            session.leave().await?;
            Ok(server)
        });
        let name = broker.name;
        let tried = tried.map_err(|ended| match ended {
            session::Ended::Away(detail) => SourceError::Unreachable {
                what: format!("the broker {name}"),
                detail,
            },
            session::Ended::Refused(detail) => wrong(format_args!("the broker {name}: {detail}")),
        });
        (name, tried)
    });
    Ok(tried.collect())
}

fn terms(settings: &StompSettings) -> Result<Arc<Terms>, SourceError> {
    if let Some((key, problem)) = settings.problems().into_iter().next() {
        return Err(wrong(format_args!("{key} {problem}")));
    }
    let security = &settings.security;
    let identity = security
        .certificate_file
        .as_deref()
        .zip(security.key_file.as_deref());
    let tls = security
        .tls
        .then(|| {
            tls::client(security.ca_file.as_deref(), identity)
                .map(Arc::new)
                .map_err(wrong)
        })
        .transpose()?;
    Ok(Arc::new(Terms {
        login: settings.login()?,
        tls,
        settings: settings.clone(),
    }))
}

fn runtime() -> Result<Runtime, SourceError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| wrong(format_args!("no runtime: {error}")))
}

fn stream(broker: &Broker, settings: &StompSettings) -> Arc<str> {
    format!("stomp:{}{}", broker.name, settings.destination).into()
}

/// Waits for the first broker, and for one answer of each other.
fn first(settings: &StompSettings, board: &Board) -> Result<(), SourceError> {
    board.wait(FIRST, |state| {
        let all = |ok: fn(&BrokerStatus) -> bool| state.brokers.iter().all(ok);
        let any = state.brokers.iter().any(|broker| broker.connected);
        all(|broker| broker.refused)
            || any && all(|broker| broker.connections > 0 || broker.trouble.is_some())
    });
    let state = board.lock();
    if state.brokers.is_empty() || state.brokers.iter().any(|broker| broker.connections > 0) {
        return Ok(());
    }
    let told: Vec<String> = state
        .brokers
        .iter()
        .map(|broker| {
            let trouble = broker.trouble.as_deref().unwrap_or("it does not answer");
            format!("{}: {trouble}", broker.stream.trim_start_matches("stomp:"))
        })
        .collect();
    let refused = state.brokers.iter().any(|broker| broker.refused);
    drop(state);
    if refused {
        return Err(wrong(told.join("; ")));
    }
    Err(SourceError::Unreachable {
        what: format!("every broker of `{}`", settings.destination),
        detail: told.join("; "),
    })
}

/// The brokers: those of a name with several addresses are several.
fn addresses(settings: &StompSettings) -> Vec<Broker> {
    let mut brokers: Vec<Broker> = Vec::new();
    for name in &settings.brokers {
        let (host, port) = name.rsplit_once(':').unwrap_or((name, ""));
        let found: Vec<SocketAddr> = match name.to_socket_addrs() {
            Ok(found) => found.collect(),
            // It is looked up again with each attempt to connect.
            Err(_) => Vec::new(),
        };
        let mut found: Vec<SocketAddr> = match found.iter().any(SocketAddr::is_ipv4) {
            // As Hermes does; both are mostly the same broker.
            true => found.into_iter().filter(SocketAddr::is_ipv4).collect(),
            false => found,
        };
        found.sort();
        found.dedup();
        if found.len() < 2 {
            brokers.push(Broker {
                name: name.clone(),
                host: host.into(),
                address: None,
            });
            continue;
        }
        brokers.extend(found.into_iter().map(|address| Broker {
            name: format!("{}:{port}", address.ip()),
            host: host.into(),
            address: Some(address),
        }));
    }
    let mut seen = std::collections::BTreeSet::new();
    brokers.retain(|broker| seen.insert(broker.name.clone()));
    brokers
}

fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
