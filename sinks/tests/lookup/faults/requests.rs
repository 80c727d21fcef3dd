//! How many requests files are, and how fast they are made.

use super::*;

#[test]
fn a_thousand_files_are_three_requests_and_then_none() -> Result<()> {
    let server = Server::start(rucio(known(1000)))?;
    let mut at = at(server.port, "")?;
    ensure!(at.found(&names(1000)).iter().all(is_labelled));
    // A token, and two of 500.
    ensure!(server.asked().len() == 3);
    let first = &server.asked()[1];
    ensure!(first.names().len() == 500 && first.header("x-rucio-auth-token") == "token-1");
    let body: Value = serde_json::from_slice(&first.body)?;
    ensure!(body["plugin"] == "ALL" && body["inherit"] == false);
    let login = &server.asked()[0];
    ensure!(login.header("x-rucio-account") == "dbb" && login.header("x-rucio-username") == "me");
    ensure!(login.header("x-rucio-password") == "open sesame");

    ensure!(at.found(&names(1000)).iter().all(is_labelled));
    ensure!(at.all.cache.get(&Did::new("raw", "night/7.fits")).is_some());
    let stats = at.all.stats.snapshot();
    ensure!(
        (stats.requests, stats.dids, stats.cache_hits, stats.operator_hits) == (3, 1000, 1000, 1),
        "{stats:?}"
    );
    Ok(())
}

#[test]
fn ten_thousand_cold_files_are_two_requests_a_thousand_by_several_threads() -> Result<()> {
    let well = rucio(known(10_000));
    let server = Server::start(move |asked| {
        let mut reply = well(asked);
        reply.after = Duration::from_millis(20);
        reply
    })?;
    let folder = scratch("lookup")?;
    let all = LookUps::open(&settings(server.port, folder.path(), "")?)?;
    let start = std::time::Instant::now();
    let threads = all.threads.into_iter().enumerate().map(|(n, mut thread)| {
        let asks: Vec<Ask> = names(10_000)[n * 2500..(n + 1) * 2500]
            .iter()
            .map(|name| ask(name))
            .collect();
        std::thread::spawn(move || thread.look_up(asks))
    });
    for thread in threads.collect::<Vec<_>>() {
        let answers = thread.join().map_err(|_| anyhow!("a thread panicked"))?;
        ensure!(answers.iter().all(|(_, found)| is_labelled(found)));
    }
    println!("10000 DIDs, cold: {:?}", start.elapsed());
    let stats = all.stats.snapshot();
    ensure!(
        (stats.requests, stats.logins, stats.asked) == (21, 1, 10_000),
        "{stats:?}"
    );
    Ok(())
}

#[test]
fn a_file_that_landed_twice_is_asked_for_once() -> Result<()> {
    let server = Server::start(rucio(known(1)))?;
    let mut at = at(server.port, "")?;
    let twice = [names(1), names(1)].concat();
    ensure!(at.found(&twice).iter().all(is_labelled));
    ensure!(server.asked()[1].names().len() == 1);
    Ok(())
}

#[test]
fn requests_keep_to_their_pace_whichever_thread_makes_them() -> Result<()> {
    let server = Server::start(rucio(known(40)))?;
    let folder = scratch("lookup")?;
    let settings = settings(
        server.port,
        folder.path(),
        r#""requests_per_second": 10, "bulk": 2,"#,
    )?;
    let all = LookUps::open(&settings)?;
    let start = std::time::Instant::now();
    let threads: Vec<_> = all
        .threads
        .into_iter()
        .enumerate()
        .map(|(n, mut thread)| {
            let asks: Vec<Ask> = names(40)[n * 10..(n + 1) * 10]
                .iter()
                .map(|name| ask(name))
                .collect();
            std::thread::spawn(move || thread.look_up(asks))
        })
        .collect();
    for thread in threads {
        let answers = thread.join().map_err(|_| anyhow!("a thread panicked"))?;
        ensure!(answers.iter().all(|(_, found)| is_labelled(found)));
    }
    // A token and 20 requests, 5 of them at once.
    ensure!(server.asked().len() == 21, "{}", server.asked().len());
    ensure!(
        start.elapsed() >= Duration::from_millis(1500),
        "{:?}",
        start.elapsed()
    );
    Ok(())
}
