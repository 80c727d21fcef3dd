//! A real Apache ActiveMQ on the loopback interface: STOMP, with its own configuration and data.
//!
//! A killed broker keeps its data and its ports, so [`ActiveMq::start_again`] brings it back as it was. The service
//! that Debian's package could start has no part in this: none of its instances is enabled.

use crate::{Certificates, Process, Program, free_port, scratch, wait_until};
use anyhow::{Context, Result, ensure};
use std::{fs, net::TcpStream, path::Path, process::Command, sync::LazyLock, time::Duration};

/// Where Debian's package puts it.
const HOME: &str = "/usr/share/activemq";

/// Quick to start rather than quick to run, and small.
const JAVA: [&str; 6] = [
    "-Xms64m",
    "-Xmx512m",
    "-Xshare:auto",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
];

const LOGGING: &str = "log4j.rootLogger=INFO, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=[%d] %p %m (%c{1})%n
";

/// The password of the file that holds the broker's key: the format wants one.
const KEYS: &str = "secret";

/// Who is let in: one user, everywhere but into the queue `closed`.
const USERS: &str = r#"
    <plugins>
      <simpleAuthenticationPlugin anonymousAccessAllowed="false">
        <users><authenticationUser username="USER" password="PASSWORD" groups="users"/></users>
      </simpleAuthenticationPlugin>
      <authorizationPlugin><map><authorizationMap><authorizationEntries>
        <authorizationEntry topic="&gt;" read="users" write="users" admin="users"/>
        <authorizationEntry queue="events.&gt;" read="users" write="users" admin="users"/>
        <authorizationEntry queue="closed" read="others" write="others" admin="others"/>
      </authorizationEntries></authorizationMap></map></authorizationPlugin>
    </plugins>"#;

/// A running broker. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct ActiveMq {
    process: Option<Process>,
    plain: u16,
    tls: u16,
    certificates: Option<Certificates>,
    // Last: the folder goes when the broker has gone.
    folder: tempfile::TempDir,
}

impl ActiveMq {
    /// The user that a secured broker knows.
    pub const USER: &str = "dbb";
    /// Its password.
    pub const PASSWORD: &str = "correct horse";

    /// A broker that lets everyone in; returns when it takes connections.
    pub fn start() -> Result<Self> {
        Self::with(false)
    }

    /// A broker that knows one user and has a second listener, [`ActiveMq::tls_port`]. The user may read and write all
    /// topics and the queues `events.…`, but not the queue `closed`.
    pub fn secured() -> Result<Self> {
        Self::with(true)
    }

    /// The one open broker of this test process, started at the first call; tests keep to destinations of their own.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: LazyLock<Result<ActiveMq>> = LazyLock::new(ActiveMq::start);
        SHARED.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))
    }

    fn with(secured: bool) -> Result<Self> {
        ensure!(
            Path::new(HOME).join("bin/activemq.jar").exists(),
            "ActiveMQ is missing from {HOME}: run `make setup`"
        );
        let folder = scratch("activemq")?;
        let certificates = secured.then(|| Certificates::new(folder.path())).transpose()?;
        let mut broker = Self {
            process: None,
            plain: free_port()?,
            tls: free_port()?,
            certificates,
            folder,
        };
        broker.configure()?;
        broker.start_again()?;
        Ok(broker)
    }

    /// The port of STOMP in the clear, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.plain
    }

    /// The port of STOMP over TLS, at `localhost`.
    pub fn tls_port(&self) -> u16 {
        self.tls
    }

    /// The certificates of a secured broker.
    pub fn certificates(&self) -> Result<&Certificates> {
        self.certificates
            .as_ref()
            .context("this ActiveMQ was started without security")
    }

    /// Kills the broker with SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.running()?.kill()
    }

    /// Sends a signal, named without `SIG`, to the broker: `STOP`, `CONT`.
    pub fn signal(&mut self, name: &str) -> Result<()> {
        self.running()?.signal(name)
    }

    /// Stops the broker in good order.
    pub fn stop(&mut self) -> Result<()> {
        let process = self.running()?;
        process.signal("TERM")?;
        process.wait().map(drop)
    }

    /// Starts the broker again with its data and ports after [`ActiveMq::kill`] or [`ActiveMq::stop`].
    pub fn start_again(&mut self) -> Result<()> {
        if let Some(mut old) = self.process.take() {
            old.leave_folder()?;
        }
        self.process = Some(self.program().start()?);
        let (plain, limit) = (self.plain, Duration::from_secs(90));
        wait_until("ActiveMQ takes connections", limit, || {
            self.running()?.ensure_running()?;
            Ok(TcpStream::connect(("127.0.0.1", plain)).is_ok())
        })
    }

    /// What the broker logged last.
    pub fn log_end(&self) -> String {
        self.process.as_ref().map(Process::log_end).unwrap_or_default()
    }

    fn running(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("ActiveMQ was never started")
    }

    fn program(&self) -> Program {
        let folder = self.folder.path();
        let class_path = ["bin/activemq.jar", "lib/*", "lib/optional/*"];
        let class_path = class_path.map(|path| format!("{HOME}/{path}")).join(":");
        let property = |name: &str, value: &Path| format!("-D{name}={}", value.display());
        Program::new("java", folder.join("log"))
            .args(JAVA)
            .arg(format!(
                "-Dlog4j.configuration=file:{}",
                folder.join("log4j.properties").display()
            ))
            .arg(property("activemq.home", Path::new(HOME)))
            .arg(property("activemq.base", folder))
            .arg(property("activemq.conf", folder))
            .arg(property("activemq.data", &folder.join("data")))
            .args(["-cp", &class_path, "org.apache.activemq.console.Main", "start"])
            .arg(format!("xbean:file:{}", folder.join("activemq.xml").display()))
            .current_dir(folder)
            .remove(folder)
    }

    fn configure(&self) -> Result<()> {
        let folder = self.folder.path();
        fs::write(folder.join("log4j.properties"), LOGGING)?;
        let (mut security, mut listener) = (String::new(), String::new());
        if let Some(certificates) = &self.certificates {
            let keys = folder.join("keys.p12");
            let made = Command::new("openssl")
                .args(["pkcs12", "-export", "-passout", &format!("pass:{KEYS}"), "-in"])
                .arg(&certificates.server)
                .arg("-out")
                .arg(&keys)
                .output()
                .context("openssl is missing: run `make setup`")?;
            ensure!(
                made.status.success(),
                "openssl pkcs12: {}",
                String::from_utf8_lossy(&made.stderr)
            );
            security = format!(
                "{}\n    <sslContext><sslContext keyStore=\"file:{}\" keyStoreType=\"PKCS12\" \
                 keyStorePassword=\"{KEYS}\" keyStoreKeyPassword=\"{KEYS}\"/></sslContext>",
                USERS
                    .replace("USER", Self::USER)
                    .replace("PASSWORD", Self::PASSWORD),
                keys.display()
            );
            listener = format!(
                "\n      <transportConnector name=\"tls\" uri=\"stomp+ssl://127.0.0.1:{}\"/>",
                self.tls
            );
        }
        let data = folder.join("data");
        let (data, plain) = (data.display(), self.plain);
        // It answers only once a message is written: with another strategy a kill takes what it has answered for.
        let text = format!(
            r#"<beans xmlns="http://www.springframework.org/schema/beans" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
    http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="tests" useJmx="false" dataDirectory="{data}">
    <persistenceAdapter><kahaDB directory="{data}/kahadb" journalDiskSyncStrategy="always"/></persistenceAdapter>{security}
    <transportConnectors>
      <transportConnector name="stomp" uri="stomp://127.0.0.1:{plain}"/>{listener}
    </transportConnectors>
  </broker>
</beans>
"#
        );
        fs::write(folder.join("activemq.xml"), text)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Stomp;

    #[test]
    fn a_killed_broker_comes_back_with_what_it_was_given() {
        let mut broker = ActiveMq::start().unwrap();
        let mut client = Stomp::connect(broker.port(), &[]).unwrap();
        client.send("/queue/a", &[], b"one").unwrap();
        broker.kill().unwrap();
        broker.start_again().unwrap();
        let mut client = Stomp::connect(broker.port(), &[]).unwrap();
        client.subscribe("/queue/a", &[]).unwrap();
        let message = client.receive(Duration::from_secs(20)).unwrap().unwrap();
        assert_eq!(message.body, b"one");
        broker.stop().unwrap();
        let folder = broker.folder.path().to_owned();
        drop(broker);
        assert!(!folder.exists());
    }

    #[test]
    fn a_secured_broker_wants_the_password() {
        let broker = ActiveMq::secured().unwrap();
        let error = Stomp::connect(broker.port(), &[]).unwrap_err();
        assert!(error.to_string().contains("password is invalid"), "{error:#}");
        let login = [("login", ActiveMq::USER), ("passcode", ActiveMq::PASSWORD)];
        let mut client = Stomp::connect(broker.port(), &login).unwrap();
        client.send("/topic/a", &[], b"one").unwrap();
        let tls = TcpStream::connect(("127.0.0.1", broker.tls_port()));
        assert!(tls.is_ok());
    }
}
