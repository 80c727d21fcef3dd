//! Who is let in, and what keeps the tables from being served.

use super::*;

#[test]
fn off_loopback_only_tls_and_the_right_password_open() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate_file, key_file) = certificate(folder.path());
    let password_file = folder.path().join("password");
    std::fs::write(&password_file, "open sesame\n").unwrap();
    let settings = SqlSettings {
        listen: Some("0.0.0.0:0".into()),
        tls: Some(TlsFiles {
            certificate_file: certificate_file.clone(),
            key_file,
        }),
        users: BTreeMap::from([("ali".into(), SecretPlace::File(password_file))]),
        ..SqlSettings::default()
    };
    let (_, epochs) = numbers(10);
    let server = start(settings, epochs, vec![offered("numbers")], Metrics::default());
    let trust = format!("sslmode=verify-full sslrootcert={}", certificate_file.display());
    let ask = ["-Atc", "select count(*) from numbers"];
    let with = |user: &str, password: &str, tls: &str| {
        psql(&server, &format!("user={user} password='{password}' {tls}"), &ask)
    };
    assert_eq!(with("ali", "open sesame", &trust).expect(), "10\n");
    for (user, password, tls, why) in [
        (
            "ali",
            "open barley",
            trust.as_str(),
            "Password authentication failed",
        ),
        ("cassim", "open sesame", &trust, "Password authentication failed"),
        ("ali", "open sesame", "sslmode=disable", "this server wants TLS"),
    ] {
        let said = with(user, password, tls);
        assert!(
            said.error.to_lowercase().contains(&why.to_lowercase()),
            "{}",
            said.error
        );
        assert_eq!(said.out, "");
    }
}

#[test]
fn a_password_works_on_loopback_too() {
    let folder = tempfile::tempdir().unwrap();
    let password_file = folder.path().join("password");
    std::fs::write(&password_file, "open sesame\n").unwrap();
    let settings = SqlSettings {
        users: BTreeMap::from([("ali".into(), SecretPlace::File(password_file))]),
        ..SqlSettings::default()
    };
    let (_, epochs) = numbers(10);
    let server = start(settings, epochs, vec![offered("numbers")], Metrics::default());
    assert!(Client::try_connect(&server, "user=ali password='open sesame'").is_ok());
    for wrong in ["user=ali password=barley", "user=cassim password='open sesame'"] {
        let error = Client::try_connect(&server, wrong).map(|_| ()).unwrap_err();
        assert_eq!(error.code().unwrap().code(), "28P01", "{error:?}");
    }
}

#[test]
fn what_keeps_it_from_being_served_says_what_to_do() {
    let refused = |settings: SqlSettings| {
        let (_, epochs) = numbers(1);
        serve(&settings, epochs, vec![offered("numbers")], Metrics::default())
            .map(|_| ())
            .unwrap_err()
    };
    let folder = tempfile::tempdir().unwrap();
    let (certificate_file, key_file) = certificate(folder.path());
    let tls = Some(TlsFiles {
        certificate_file,
        key_file,
    });
    let open = SqlSettings {
        listen: Some("0.0.0.0:0".into()),
        ..SqlSettings::default()
    };
    let error = refused(open.clone());
    assert_eq!(
        error.to_string(),
        "`0.0.0.0:0` is not this host alone, so TLS is needed: set `sql.tls.certificate_file` and `sql.tls.key_file`, \
         or listen on 127.0.0.1"
    );
    assert!(!error.is_transient());
    let error = refused(SqlSettings { tls, ..open.clone() });
    assert!(error.to_string().contains("passwords are needed"), "{error}");
    let tls = Some(TlsFiles {
        certificate_file: "/nowhere/certificate.pem".into(),
        key_file: "/nowhere/key.pem".into(),
    });
    let users = BTreeMap::from([("ali".into(), SecretPlace::Env("PATH".into()))]);
    let error = refused(SqlSettings { tls, users, ..open });
    assert_eq!(
        error.to_string(),
        "could not read the certificate from file `/nowhere/certificate.pem`"
    );
    let error = refused(SqlSettings {
        listen: Some("nowhere".into()),
        ..SqlSettings::default()
    });
    assert!(matches!(error, ServeError::Address { .. }), "{error}");
}

/// Connections that say nothing, or the beginning of something.
fn strangers(server: &dbb_serving::pg::SqlServer, count: usize) -> Vec<std::net::TcpStream> {
    let said = [&b""[..], b"\x00\x00", b"\x00\x00\x20\x00\x00\x03\x00\x00user"];
    (0..count)
        .map(|n| {
            let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
            std::io::Write::write_all(&mut stream, said[n % said.len()]).unwrap();
            stream
        })
        .collect()
}

fn is_closed(stream: &mut std::net::TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    !matches!(std::io::Read::read(stream, &mut [0]), Ok(1..))
}

#[test]
fn those_who_say_nothing_take_no_place_and_are_let_go() {
    let settings = SqlSettings {
        max_connections: 1,
        ..SqlSettings::default()
    };
    let (_, epochs) = numbers(10);
    let server = start(settings, epochs, vec![offered("numbers")], Metrics::default());
    let mut silent = strangers(&server, 60);
    let mut client = Client::connect(&server, "");
    let error = Client::try_connect(&server, "").map(|_| ()).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "53300", "{error:?}");
    assert!(silent.iter_mut().all(is_closed));
    client.batch_execute("select 1").unwrap();
    drop(client);
    wait_for(|| Client::try_connect(&server, "").is_ok());
}

#[test]
fn a_crowd_at_the_door_keeps_neither_clients_nor_cancels_out() {
    let settings = SqlSettings {
        max_connections: 1,
        ..SqlSettings::default()
    };
    let (_, epochs) = slow_numbers(10_000_000, Duration::from_millis(5));
    let server = start(settings, epochs, vec![offered("numbers")], Metrics::default());
    let mut crowd = strangers(&server, 200);
    let mut client = Client::connect(&server, "");
    crowd.extend(strangers(&server, 200));
    let cancel = client.cancel_token();
    std::thread::scope(|threads| {
        let asked = threads.spawn(|| client.query("select count(n) from numbers", &[]).map(drop));
        std::thread::sleep(Duration::from_millis(300));
        crowd.extend(strangers(&server, 100));
        cancel.cancel_query(NoTls).unwrap();
        let error = asked.join().unwrap().unwrap_err();
        assert_eq!(error.code().unwrap().code(), "57014", "{error:?}");
    });
}

#[test]
fn a_wrong_password_gives_its_place_back() {
    let folder = tempfile::tempdir().unwrap();
    let password_file = folder.path().join("password");
    std::fs::write(&password_file, "open sesame\n").unwrap();
    let settings = SqlSettings {
        users: BTreeMap::from([("ali".into(), SecretPlace::File(password_file))]),
        max_connections: 1,
        ..SqlSettings::default()
    };
    let (_, epochs) = numbers(10);
    let server = start(settings, epochs, vec![offered("numbers")], Metrics::default());
    for _ in 0..5 {
        let wrong = Client::try_connect(&server, "user=ali password=barley").map(|_| ());
        let code = wrong.unwrap_err().code().map(|code| code.code().to_owned());
        assert!(matches!(code.as_deref(), Some("28P01" | "53300")), "{code:?}");
    }
    wait_for(|| Client::try_connect(&server, "user=ali password='open sesame'").is_ok());
}
