//! Session: one connection with one broker, from its first byte to its last.
//!
//! ```text
//!   TCP, TLS --> CONNECT, CONNECTED --> SUBSCRIBE, RECEIPT --> MESSAGE ...       ACK ..., heart-beats --> DISCONNECT
//! ```
//!
//! What goes wrong ends it, with a sentence; whoever began it begins the next one.
//!
//! Whatever the broker sends, it costs the memory of one frame and of what there is room for: while there is none, or while
//! it has sent twice as many messages as it was asked to send ahead, nothing is read of it.

use super::{
    flight::Flight,
    frame::{self, Command, Frame, Heard},
    settings::{Ack, Login, StompSettings},
};
use bytes::BytesMut;
use rustls::{ClientConfig, pki_types::ServerName};
use socket2::{SockRef, TcpKeepalive};
use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::UnboundedReceiver,
    time::{sleep_until, timeout},
};
use tokio_rustls::TlsConnector;

/// Longest that a broker may take for a step of the beginning, or to take what is written to it.
const STEP: Duration = Duration::from_secs(20);

/// The one subscription of a connection, and the receipt that it is asked for by.
const SUBSCRIPTION: &str = "0";
const SUBSCRIBED: &str = "subscribed";

/// What a silent broker is asked by: a transaction in which nothing happens.
const ALIVE: &str = "alive";

/// Longest name that a message or a delivery may have, in bytes: names are kept longer than messages.
const NAME: usize = 1024;

/// What is read at once, in bytes.
const READ: usize = 64 * 1024;

/// Why a session ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The broker is away, or said what makes no sense: it may be better next time.
    #[error("{0}")]
    Away(String),
    /// The broker will say so again until someone changes something.
    #[error("{0}")]
    Refused(String),
}

/// What a session is told while it runs.
#[derive(Debug)]
pub(super) enum Order {
    /// Deliveries of this connection, in order, that may be acknowledged.
    Ack { connection: u64, acks: Vec<Box<str>> },
    /// Say good-bye.
    Leave,
}

/// A broker at one address.
#[derive(Debug, Clone)]
pub(super) struct Broker {
    /// `host:port`, as it is called.
    pub(super) name: String,
    /// The host of the configuration, which its certificate is for.
    pub(super) host: String,
    /// Where to connect to, where the host has several addresses; found anew each time otherwise.
    pub(super) address: Option<SocketAddr>,
}

/// What all sessions of a source have in common.
pub(super) struct Terms {
    pub(super) settings: StompSettings,
    pub(super) login: Login,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

pub(super) struct Session {
    wire: Box<dyn Wire>,
    read: BytesMut,
    reader: frame::Reader,
    written: Instant,
    heard: Instant,
    /// How often we are to be heard, and the broker is.
    beats: (Option<Duration>, Option<Duration>),
    /// How long a broker without heart-beats may be silent until it is asked, and that it was.
    silence: Duration,
    asked: bool,
    ack: Ack,
    destination: String,
    /// The broker's name and version, as it tells them.
    server: Option<String>,
    /// Messages that were delivered and not acknowledged, and the most of them.
    open: usize,
    most_open: usize,
}

impl Session {
    /// Connects and logs in.
    pub(super) async fn connect(broker: &Broker, terms: &Terms) -> Result<Self, Ended> {
        let settings = &terms.settings;
        let wire = within("take the connection", open(broker, terms)).await??;
        let mut session = Self {
            wire,
            read: BytesMut::with_capacity(READ),
            reader: frame::Reader::new(settings.max_message_bytes as usize),
            written: Instant::now(),
            heard: Instant::now(),
            beats: (None, None),
            silence: Duration::from_secs(settings.silence_seconds.into()),
            asked: false,
            ack: settings.ack,
            destination: settings.destination.clone(),
            server: None,
            open: 0,
            // Brokers count a little otherwise than we do: it may be more than was asked for, not without end.
            most_open: 2 * settings.prefetch as usize,
        };
        let beat = settings.heart_beat_ms;
        let mut connect = Frame::new(Command::Connect)
            .with("accept-version", "1.2")
            .with("host", settings.virtual_host.as_ref().unwrap_or(&broker.host))
            .with("heart-beat", format!("{beat},{beat}"))
            .with("client-id", &settings.client_id);
        if let Some((user, password)) = &terms.login {
            connect = connect.with("login", user).with("passcode", password);
        }
        session.write(&[connect]).await?;
        let answer = within("answer CONNECT", session.frame()).await??;
        match answer.command {
            Command::Connected if answer.header("version") == Some("1.2") => {}
            Command::Connected => {
                let version = answer.header("version").unwrap_or("1.0");
                return Err(Ended::Refused(format!(
                    "it speaks STOMP {version}, and 1.2 is needed"
                )));
            }
            _ => return Err(not_let_in(&answer, &settings.client_id)),
        }
        session.server = answer.header("server").map(str::to_owned);
        session.beats = agreed(beat, answer.header("heart-beat").unwrap_or("0,0"));
        Ok(session)
    }

    /// What the broker calls itself.
    pub(super) fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// Asks for messages; [`Session::run`] hears the answer.
    pub(super) async fn subscribe(&mut self, settings: &StompSettings) -> Result<(), Ended> {
        let mode = match settings.ack {
            Ack::Cumulative => "client",
            Ack::Individual => "client-individual",
        };
        let prefetch = settings.prefetch.to_string();
        let mut subscribe = Frame::new(Command::Subscribe)
            .with("id", SUBSCRIPTION)
            .with("destination", &settings.destination)
            .with("ack", mode)
            .with("receipt", SUBSCRIBED)
            .with("activemq.prefetchSize", &prefetch)
            // The same in RabbitMQ's words.
            .with("prefetch-count", &prefetch);
        if settings.is_topic() {
            // In ActiveMQ's words, in Artemis's, and in RabbitMQ's.
            subscribe = subscribe
                .with("activemq.subscriptionName", &settings.client_id)
                .with("durable-subscription-name", &settings.client_id)
                .with("durable", "true")
                .with("auto-delete", "false");
        }
        if let Some(selector) = &settings.selector {
            subscribe = subscribe.with("selector", selector);
        }
        self.write(&[subscribe]).await
    }

    /// Delivers messages and acknowledges them until told to leave, or until something goes wrong; calls `subscribed` when
    /// the broker has taken the subscription, which may be after the first messages.
    pub(super) async fn run(
        &mut self,
        connection: u64,
        orders: &mut UnboundedReceiver<Order>,
        flight: &Flight,
        deliver: &mut impl FnMut(Frame),
        subscribed: impl FnOnce(),
    ) -> Result<(), Ended> {
        let mut subscribed = Some(subscribed);
        let mut answer_by = Instant::now() + STEP;
        loop {
            let mut full = self.is_full(flight);
            while !full && let Some(frame) = self.taken()? {
                match frame.command {
                    Command::Message => {
                        self.open += 1;
                        deliver(named(frame)?);
                    }
                    Command::Error if subscribed.is_some() => {
                        return Err(not_subscribed(&frame, &self.destination));
                    }
                    Command::Error => {
                        return Err(Ended::Away(format!("it ended the session: {}", said(&frame))));
                    }
                    Command::Receipt if frame.header("receipt-id") == Some(SUBSCRIBED) => {
                        subscribed.take().into_iter().for_each(|subscribed| subscribed());
                    }
                    _ => {}
                }
                full = self.is_full(flight);
            }
            let beat = self.beats.0.map(|every| self.written + every);
            // Of whom nothing is read, nothing is heard.
            let silent = (!full).then(|| self.heard + self.patience());
            let unanswered = (!full && subscribed.is_some()).then_some(answer_by);
            tokio::select! {
                read = read(&mut self.wire, &mut self.read), if !full => self.came(read)?,
                () = flight.room(), if full && flight.is_full() => {}
                order = orders.recv() => match order {
                    Some(Order::Ack { connection: of, acks }) if of == connection => self.acknowledge(acks).await?,
                    // Delivered on a connection that is no more: they come again.
                    Some(Order::Ack { .. }) => {}
                    Some(Order::Leave) | None => return self.leave().await,
                },
                () = at(beat) => self.send(b"\n").await?,
                () = at(unanswered) => return Err(did_not("answer SUBSCRIBE")),
                () = at(silent) => self.ask().await?,
            }
            if full {
                self.heard = Instant::now();
                answer_by = self.heard + STEP;
            }
        }
    }

    fn is_full(&self, flight: &Flight) -> bool {
        self.open >= self.most_open || flight.is_full()
    }

    /// How long it may be silent.
    fn patience(&self) -> Duration {
        match self.beats.1 {
            Some(every) => every * 2,
            None if self.asked => self.silence * 2,
            None => self.silence,
        }
    }

    /// Asks a broker that is silent and need not say that it is there; one that was to, or was asked, is given up.
    async fn ask(&mut self) -> Result<(), Ended> {
        if self.beats.1.is_some() || self.asked {
            let seconds = self.heard.elapsed().as_secs_f32();
            return Err(Ended::Away(format!("nothing was heard of it for {seconds:.1} s")));
        }
        self.asked = true;
        self.write(&[
            Frame::new(Command::Begin).with("transaction", ALIVE),
            Frame::new(Command::Abort)
                .with("transaction", ALIVE)
                .with("receipt", ALIVE),
        ])
        .await
    }

    /// Says good-bye, and returns when the broker has taken all that was said before.
    pub(super) async fn leave(&mut self) -> Result<(), Ended> {
        self.write(&[Frame::new(Command::Disconnect).with("receipt", "bye")])
            .await?;
        let answered = async {
            // What is delivered now comes again.
            while self.frame().await?.command != Command::Receipt {}
            Ok(())
        };
        within("answer DISCONNECT", answered).await?
    }

    async fn acknowledge(&mut self, acks: Vec<Box<str>>) -> Result<(), Ended> {
        self.open = self.open.saturating_sub(acks.len());
        let ack = |id: &str| Frame::new(Command::Ack).with("id", id);
        match self.ack {
            Ack::Individual => {
                let frames: Vec<_> = acks.iter().map(|id| ack(id)).collect();
                self.write(&frames).await
            }
            // The last stands for all before it.
            Ack::Cumulative => match acks.last() {
                Some(last) => self.write(&[ack(last)]).await,
                None => Ok(()),
            },
        }
    }

    /// The next frame.
    async fn frame(&mut self) -> Result<Frame, Ended> {
        loop {
            if let Some(frame) = self.taken()? {
                return Ok(frame);
            }
            let read = read(&mut self.wire, &mut self.read).await;
            self.came(read)?;
        }
    }

    /// The next frame of what has been read.
    fn taken(&mut self) -> Result<Option<Frame>, Ended> {
        loop {
            match self.reader.take(&mut self.read) {
                Ok(Some(Heard::Frame(frame))) => return Ok(Some(frame)),
                Ok(Some(Heard::HeartBeat)) => {}
                Ok(None) => return Ok(None),
                Err(error) => return Err(Ended::Away(format!("it sent a broken frame: {error}"))),
            }
        }
    }

    fn came(&mut self, read: io::Result<usize>) -> Result<(), Ended> {
        self.heard = Instant::now();
        self.asked = false;
        match read {
            Ok(0) if self.read.is_empty() => Err(Ended::Away("it closed the connection".into())),
            Ok(0) => Err(Ended::Away(format!(
                "it closed the connection in the middle of a frame, after {} bytes of it",
                self.read.len()
            ))),
            Ok(_) => Ok(()),
            Err(error) => Err(Ended::Away(format!("the connection broke: {error}"))),
        }
    }

    async fn write(&mut self, frames: &[Frame]) -> Result<(), Ended> {
        let mut bytes = Vec::with_capacity(64 * frames.len());
        frames.iter().for_each(|frame| frame.write(&mut bytes));
        self.send(&bytes).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let sent = async {
            self.wire.write_all(bytes).await?;
            self.wire.flush().await
        };
        let sent = within("take what is sent", sent).await?;
        self.written = Instant::now();
        sent.map_err(|error| Ended::Away(format!("the connection broke: {error}")))
    }
}

/// Reads what has come into the end of `buffer`.
async fn read(wire: &mut Box<dyn Wire>, buffer: &mut BytesMut) -> io::Result<usize> {
    if buffer.capacity() - buffer.len() < READ / 4 {
        buffer.reserve(READ);
    }
    wire.read_buf(buffer).await
}

async fn open(broker: &Broker, terms: &Terms) -> Result<Box<dyn Wire>, Ended> {
    let settings = &terms.settings;
    let connected = match broker.address {
        Some(address) => TcpStream::connect(address).await,
        None => TcpStream::connect(&broker.name).await,
    };
    let stream = connected.map_err(|error| Ended::Away(format!("no connection: {error}")))?;
    // Acknowledgements are small, and wait for nothing.
    let _ = stream.set_nodelay(true);
    // A broker whose machine has gone is noticed by the system too, even where it need not say that it is there.
    let probe = Duration::from_secs((settings.silence_seconds / 4).max(1).into());
    let keepalive = TcpKeepalive::new()
        .with_time(probe)
        .with_interval(probe)
        .with_retries(4);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    let Some(tls) = &terms.tls else {
        return Ok(Box::new(stream));
    };
    let host = broker.host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host)
        .map_err(|_| Ended::Refused(format!("`{}` is no name for a certificate", broker.host)))?;
    match TlsConnector::from(Arc::clone(tls)).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        // What rustls itself says of certificates and versions, and what does not speak TLS at all.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(Ended::Refused(format!(
            "TLS: {error}; look at `security.ca_file`, and whether this port speaks TLS"
        ))),
        Err(error) => Err(Ended::Away(format!("TLS: {error}"))),
    }
}

async fn within<T>(what: &str, step: impl Future<Output = T>) -> Result<T, Ended> {
    timeout(STEP, step).await.map_err(|_| did_not(what))
}

fn did_not(what: &str) -> Ended {
    Ended::Away(format!("it did not {what} for {} s", STEP.as_secs()))
}

/// A message whose names can be kept.
fn named(frame: Frame) -> Result<Frame, Ended> {
    for name in ["message-id", "ack"] {
        let bytes = frame.header(name).map_or(0, str::len);
        if bytes > NAME {
            return Err(Ended::Away(format!(
                "it sent a message whose `{name}` has {bytes} bytes, and more than {NAME} are not kept"
            )));
        }
    }
    Ok(frame)
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

/// How often we are to be heard and the broker is, from what we offered and what it answered.
fn agreed(ours: u32, theirs: &str) -> (Option<Duration>, Option<Duration>) {
    let (can, wants) = theirs.split_once(',').unwrap_or(("0", "0"));
    let number = |text: &str| text.trim().parse::<u32>().unwrap_or(0);
    let every =
        |theirs: u32| (ours > 0 && theirs > 0).then(|| Duration::from_millis(ours.max(theirs).into()));
    // A little early, so that a busy moment makes nobody impatient.
    (
        every(number(wants)).map(|every| every * 2 / 3),
        every(number(can)),
    )
}

/// An ERROR in answer to CONNECT.
fn not_let_in(answer: &Frame, client_id: &str) -> Ended {
    let text = said(answer);
    let lower = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&["already connected", "already in use", "invalidclientid"]) {
        return Ended::Away(format!(
            "it has a connection of `{client_id}` already: {text}; if that is not the end of an earlier dbb, stop the \
             other program, or give this one a `client_id` of its own"
        ));
    }
    if has(&[
        "password",
        "passcode",
        "credential",
        "login",
        "authenti",
        "authori",
        "access",
        "security",
        "user",
    ]) {
        return Ended::Refused(format!(
            "it refuses the login: {text}; look at `security.username` and `security.password_file`"
        ));
    }
    Ended::Away(format!("it refuses the connection: {text}"))
}

/// An ERROR in answer to SUBSCRIBE.
fn not_subscribed(answer: &Frame, destination: &str) -> Ended {
    Ended::Refused(format!(
        "it refuses the subscription to `{destination}`: {}; look at the name of the destination, and at what the user \
         may read",
        said(answer)
    ))
}

/// What a broker says of an error, in one line: brokers in Java add where in their code they were.
fn said(frame: &Frame) -> String {
    let body = String::from_utf8_lossy(&frame.body);
    let first = body.lines().find(|line| !line.trim().is_empty());
    let text = frame.header("message").or(first).unwrap_or("it does not say why");
    text.trim().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heart_beats_are_the_slower_of_what_both_want() {
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(agreed(3000, "0,0"), (None, None));
        assert_eq!(agreed(3000, "1000,6000"), (ms(4000), ms(3000)));
        assert_eq!(agreed(3000, "rubbish"), (None, None));
        assert_eq!(agreed(0, "1000,6000"), (None, None));
    }

    #[test]
    fn a_wrong_password_needs_someone_and_a_second_connection_needs_time() {
        let error = |message: &str| Frame::new(Command::Error).with("message", message);
        let refused = not_let_in(&error("User name [dbb] or password is invalid."), "dbb");
        assert!(matches!(refused, Ended::Refused(_)), "{refused}");
        let twice = not_let_in(
            &error("Broker: b - Client: dbb already connected from tcp://x"),
            "dbb",
        );
        assert!(matches!(twice, Ended::Away(_)), "{twice}");
    }
}
