//! Tokens and passwords: renewed, refused, and never shown.

use super::*;

#[test]
fn a_token_that_is_refused_is_renewed() -> Result<()> {
    let well = rucio(known(10));
    let logins = AtomicUsize::new(0);
    let server = Server::start(move |asked: &Asked| {
        let login = || logins.fetch_add(1, Ordering::Relaxed);
        match (asked.path.as_str(), asked.header("x-rucio-auth-token")) {
            ("/auth/userpass", _) => Reply::token(["old", "new"][login().min(1)]),
            (_, "new") => well(asked),
            _ => Reply::error(
                401,
                "CannotAuthenticate",
                "Cannot authenticate with given credentials",
            ),
        }
    })?;
    let mut at = at(server.port, "")?;
    ensure!(at.found(&names(10)).iter().all(is_labelled));
    let stats = at.all.stats.snapshot();
    ensure!(
        (stats.logins, stats.requests, stats.down) == (2, 4, false),
        "{stats:?}"
    );
    Ok(())
}

#[test]
fn refused_credentials_are_named_with_what_to_do_and_never_shown() -> Result<()> {
    let server = Server::start(|asked: &Asked| match asked.path.as_str() {
        "/auth/userpass" => Reply::error(
            401,
            "CannotAuthenticate",
            "Cannot authenticate to account dbb with given credentials",
        ),
        _ => Reply::new(200, ""),
    })?;
    let mut at = at(server.port, "")?;
    let found = at.found(&names(3));
    let why = waits(&found[0], false).unwrap_or_default();
    for part in [
        "account `dbb`",
        "user name `me`",
        "CannotAuthenticate",
        "mend the credentials",
    ] {
        ensure!(why.contains(part), "{why}");
    }
    ensure!(
        !why.contains("sesame")
            && !format!("{:?} {:?}", at.all.rucio, at.all.stats.snapshot()).contains("sesame")
    );
    at.found(&names(3));
    // An account is not locked by being tried again and again.
    ensure!(server.asked().len() == 1);
    Ok(())
}

#[test]
fn a_token_in_a_file_is_read_again_when_it_was_renewed_there() -> Result<()> {
    let well = rucio(known(10));
    let server = Server::start(move |asked| match asked.header("x-rucio-auth-token") {
        "second" => well(asked),
        _ => Reply::error(
            401,
            "CannotAuthenticate",
            "Cannot authenticate with given credentials",
        ),
    })?;
    let folder = scratch("lookup")?;
    let token = folder.path().join("token");
    fs::write(&token, "second\n")?;
    let json = format!(
        r#"{{"rucio": {{"url": "http://127.0.0.1:{}", "account": "dbb", "auth": {{"token_file": {token:?}}}}}}}"#,
        server.port
    );
    let mut all = LookUps::open(&serde_json::from_str(&json)?)?;
    let mut at = At {
        thread: all.threads.remove(0),
        all,
        _folder: folder,
    };
    ensure!(at.found(&names(5)).iter().all(is_labelled));
    fs::write(&token, "third\n")?;
    let found = at.found(&names(10)[5..]);
    ensure!(
        waits(&found[0], false).is_some_and(|why| why.contains("token of file `")),
        "{found:?}"
    );
    Ok(())
}

#[test]
fn a_redirection_is_not_followed_with_the_token() -> Result<()> {
    let elsewhere = Server::start(|_: &Asked| Reply::new(200, ""))?;
    let to = format!("http://127.0.0.1:{}/dids/bulkmeta", elsewhere.port);
    let server = Server::start(move |asked: &Asked| match asked.path.as_str() {
        "/auth/userpass" => Reply::token("token-1"),
        _ => Reply::new(302, "").with("Location", to.clone()),
    })?;
    let found = at(server.port, "")?.found(&names(1));
    ensure!(
        waits(&found[0], false).is_some_and(|why| why.contains("status 302")),
        "{found:?}"
    );
    ensure!(elsewhere.asked().is_empty());
    Ok(())
}
