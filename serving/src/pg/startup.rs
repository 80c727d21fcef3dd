//! Who is there: TLS and a password, unless it is this host.

use super::{DOOR, Door};
use crate::{
    doors::{self, Reason},
    secret::Secret,
    sql::functions::SERVER_VERSION,
};
use async_trait::async_trait;
use futures::Sink;
use pgwire::{
    api::{
        ClientInfo, PidSecretKeyGenerator, RandomPidSecretKeyGenerator,
        auth::{
            AuthSource, DefaultServerParameterProvider, LoginInfo, Password, StartupHandler,
            finish_authentication, protocol_negotiation,
            sasl::{
                SASLAuthStartupHandler,
                scram::{SCRAM_ITERATIONS, ScramAuth, gen_salted_password},
            },
            save_startup_parameters_to_metadata,
        },
    },
    error::{ErrorInfo, PgWireError, PgWireResult},
    messages::{PgWireBackendMessage, PgWireFrontendMessage},
};
use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::OwnedSemaphorePermit;

/// Salted passwords by user, as SCRAM-SHA-256 wants them.
#[derive(Debug)]
pub(super) struct Users {
    salted: BTreeMap<String, Password>,
    /// Makes up what unknown users are asked, always the same for the same name.
    decoy: [u8; 32],
}

impl Users {
    pub(super) fn new(secrets: &BTreeMap<String, Secret>) -> Self {
        let salted = |secret: &Secret| {
            let salt: [u8; 16] = rand::random();
            let salted = gen_salted_password(secret.expose(), &salt, SCRAM_ITERATIONS);
            Password::new(Some(salt.to_vec()), salted)
        };
        Self {
            salted: secrets
                .iter()
                .map(|(user, secret)| (user.clone(), salted(secret)))
                .collect(),
            decoy: rand::random(),
        }
    }
}

#[async_trait]
impl AuthSource for Users {
    async fn get_password(&self, login: &LoginInfo) -> PgWireResult<Password> {
        let user = login.user().unwrap_or_default();
        if let Some(password) = self.salted.get(user) {
            return Ok(password.clone());
        }
        // An unknown user is asked like a known one, and then is wrong whatever the answer.
        let salt = gen_salted_password(user, &self.decoy, 1);
        let never: [u8; 32] = rand::random();
        Ok(Password::new(Some(salt[..16].to_vec()), never.to_vec()))
    }
}

/// The beginning of one connection.
pub(super) struct Startup {
    door: Arc<Door>,
    /// One of the connections that may be open at once, from the login to the end.
    place: Mutex<Option<OwnedSemaphorePermit>>,
    /// A message with a password has come.
    asked: AtomicBool,
    scram: Option<SASLAuthStartupHandler<DefaultServerParameterProvider>>,
}

impl Startup {
    pub(super) fn new(door: Arc<Door>) -> Self {
        let scram = door.users.as_ref().map(|users| {
            let users = Arc::clone(users) as Arc<dyn AuthSource>;
            SASLAuthStartupHandler::new(Arc::new(parameters()))
                .with_scram(ScramAuth::new(users))
                .with_pid_secret_key_generator(Arc::clone(&door.keys) as Arc<dyn PidSecretKeyGenerator>)
        });
        let place = Mutex::default();
        Self {
            door,
            place,
            asked: AtomicBool::new(false),
            scram,
        }
    }

    /// Takes a place. It is given back when the connection ends, also when the password turns out to be wrong.
    fn take_place(&self, client: &impl ClientInfo) -> PgWireResult<()> {
        match Arc::clone(&self.door.places).try_acquire_owned() {
            Ok(place) => {
                *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
                Ok(())
            }
            Err(_) => Err(self.is_full(client)),
        }
    }

    fn is_full(&self, client: &impl ClientInfo) -> PgWireError {
        let most = self.door.settings.max_connections;
        let full = format!("all {most} connections are in use; try again later");
        doors::refuse(DOOR, Reason::Full, client.socket_addr().ip(), &full);
        fatal("53300", full)
    }
}

/// Of the whole server, so that no two connections have one number.
pub(super) fn keys() -> Arc<RandomPidSecretKeyGenerator> {
    Arc::default()
}

fn parameters() -> DefaultServerParameterProvider {
    let mut parameters = DefaultServerParameterProvider::default();
    parameters.server_version = SERVER_VERSION.to_owned();
    parameters.is_superuser = false;
    parameters.default_transaction_read_only = true;
    parameters
}

/// An error that ends the connection.
pub(super) fn fatal(state: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new(
        "FATAL".into(),
        state.into(),
        message.into(),
    )))
}

#[async_trait]
impl StartupHandler for Startup {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if matches!(message, PgWireFrontendMessage::Startup(_)) {
            if self.door.places.available_permits() == 0 {
                return Err(self.is_full(client));
            }
            if self.door.tls_required && !client.is_secure() {
                return Err(fatal(
                    "28000",
                    "this server wants TLS; connect with sslmode=require or stricter",
                ));
            }
        }
        if let Some(scram) = &self.scram {
            // The second of them proves the password: with it the login ends, one way or the other.
            let proves = self.asked.load(Ordering::Relaxed);
            if matches!(message, PgWireFrontendMessage::PasswordMessageFamily(_)) {
                if proves {
                    self.take_place(client)?;
                }
                self.asked.store(true, Ordering::Relaxed);
            }
            return scram.on_startup(client, message).await;
        }
        if let PgWireFrontendMessage::Startup(startup) = &message {
            self.take_place(client)?;
            protocol_negotiation(client, startup).await?;
            save_startup_parameters_to_metadata(client, startup);
            let (pid, key) = self.door.keys.generate(client);
            client.set_pid_and_secret_key(pid, key);
            finish_authentication(client, &parameters()).await?;
        }
        Ok(())
    }
}
