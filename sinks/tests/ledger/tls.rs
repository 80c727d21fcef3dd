//! TLS to PostgreSQL: used where it is asked for, and only with a server that the certificates vouch for.

use crate::support::{entry, who};
use dbb_events::Outcome;
use dbb_sinks::ledger::{Ledger, LedgerSettings};
use dbb_test_services::{Certificates, Postgres};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
};

#[test]
fn tls_is_used_and_a_stranger_is_not_trusted() {
    let server = Postgres::start().unwrap();
    let database = server.create_database("site").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ours = Certificates::new(folder.path()).unwrap();
    // The server reads its key as the user it runs as, and only if nobody else can.
    let data = server.sql("postgres", "SHOW data_directory").unwrap();
    let owner = fs::metadata(&data).unwrap();
    let key = format!("{data}/tls.pem");
    fs::copy(&ours.server, &key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&key, Some(owner.uid()), Some(owner.gid())).unwrap();
    for setting in [
        "ssl_cert_file = 'tls.pem'",
        "ssl_key_file = 'tls.pem'",
        "ssl = on",
    ] {
        server
            .sql("postgres", &format!("ALTER SYSTEM SET {setting}"))
            .unwrap();
    }
    server.sql("postgres", "SELECT pg_reload_conf()").unwrap();

    let mut settings = LedgerSettings {
        url: format!("{database}?sslmode=require"),
        ca_file: Some(ours.authority),
        ..LedgerSettings::default()
    };
    let mut tries = 0;
    let mut ledger = loop {
        match Ledger::open(&settings) {
            Ok(ledger) => break ledger,
            // The server takes a moment to read its settings anew.
            Err(e) => assert!(tries < 100, "{e}"),
        }
        tries += 1;
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let generation = ledger.begin_generation(&who()).unwrap();
    ledger
        .write(generation, &[entry(1, Outcome::Ingested, 20)])
        .unwrap();
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'dbb' AND ssl";
    assert_eq!(server.sql("site", encrypted).unwrap(), "1");

    let other = tempfile::tempdir().unwrap();
    settings.ca_file = Some(Certificates::new(other.path()).unwrap().authority);
    let error = Ledger::open(&settings).unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
}
