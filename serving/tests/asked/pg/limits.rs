//! No statement takes more than it may, and each can be called off.

use super::*;

#[test]
fn a_statement_is_cut_off_while_its_rows_are_sent() {
    let (table, epochs) = slow_numbers(10_000_000, Duration::from_millis(5));
    let settings = SqlSettings {
        statement_timeout_ms: 300,
        ..SqlSettings::default()
    };
    let server = start(settings, epochs, vec![offered("numbers")], Metrics::default());
    for sql in [
        "select * from numbers",
        "select count(n) from numbers",
        "explain analyze select max(n) from numbers",
    ] {
        let said = psql(&server, "", &["-Atc", sql]);
        assert_eq!(said.state, "57014", "{sql}: {}", said.error);
        let made = table.made.swap(0, Ordering::SeqCst);
        assert!((1..10_000).contains(&made), "{sql}: {made}");
        let mut client = Client::connect(&server, "");
        let error = client.query(sql, &[]).map(|rows| rows.len()).unwrap_err();
        assert_eq!(error.code().unwrap().code(), "57014", "{sql}: {error:?}");
    }
}

#[test]
fn a_client_may_allow_itself_less_time_but_not_more() {
    let (_, epochs) = slow_numbers(10_000_000, Duration::from_millis(5));
    let settings = SqlSettings {
        statement_timeout_ms: 3_000,
        ..SqlSettings::default()
    };
    let server = start(settings, epochs, vec![offered("numbers")], Metrics::default());
    let mut client = Client::connect(&server, "");
    for (time, told) in [("100", "longer than 100 ms"), ("1h", "longer than 3000 ms")] {
        client
            .batch_execute(&format!("set statement_timeout = '{time}'"))
            .unwrap();
        let error = client.query("select count(n) from numbers", &[]).unwrap_err();
        let message = error.as_db_error().unwrap().message();
        assert!(message.contains(told), "{message}");
    }
}

#[test]
fn an_answer_that_is_too_long_is_broken_off() {
    let (table, epochs) = numbers(10_000_000);
    let settings = SqlSettings {
        max_rows: 5000,
        ..SqlSettings::default()
    };
    let server = start(settings, epochs, vec![offered("numbers")], Metrics::default());
    let said = psql(&server, "", &["-Atc", "select n from numbers"]);
    assert_eq!(said.state, "54000", "{}", said.error);
    assert!(
        table.made.load(Ordering::SeqCst) < 20,
        "rows are made as they are sent"
    );
    let rows = psql(&server, "", &["-Atc", "select n from numbers limit 5000"]).expect();
    assert_eq!(rows.lines().count(), 5000);
}

#[test]
fn a_statement_that_needs_too_much_memory_fails_alone_and_gives_it_back() {
    let (_, epochs) = numbers(500_000);
    let settings = SqlSettings {
        statement_memory_mib: 4,
        memory_mib: 6,
        ..SqlSettings::default()
    };
    let server = start(settings, epochs, vec![offered("numbers")], Metrics::default());
    let mut client = Client::connect(&server, "");
    for _ in 0..5 {
        let error = client
            .query("select * from numbers order by n desc", &[])
            .map(|rows| rows.len())
            .unwrap_err();
        assert_eq!(error.code().unwrap().code(), "53200", "{error:?}");
        // Needs more than what is left of the whole, had nothing been given back.
        let few = "select n from (select n from numbers limit 100000) order by n desc limit 1";
        assert_eq!(client.query_one(few, &[]).unwrap().get::<_, i64>(0), 99_999);
    }
}

#[test]
fn one_connection_too_many_is_told_so() {
    let server = {
        let (_, epochs) = numbers(10);
        let settings = SqlSettings {
            max_connections: 1,
            ..SqlSettings::default()
        };
        start(settings, epochs, vec![offered("numbers")], Metrics::default())
    };
    let first = Client::connect(&server, "");
    let error = Client::try_connect(&server, "").map(|_| ()).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "53300", "{error:?}");
    drop(first);
    wait_for(|| Client::try_connect(&server, "").is_ok());
}

#[test]
fn a_statement_is_called_off_by_its_client() {
    let (table, epochs) = slow_numbers(10_000_000, Duration::from_millis(5));
    let server = start(
        SqlSettings::default(),
        epochs,
        vec![offered("numbers")],
        Metrics::default(),
    );
    let mut client = Client::connect(&server, "");
    let cancel = client.cancel_token();
    let calls_off = std::thread::spawn(move || {
        wait_for(|| table.made.load(Ordering::SeqCst) > 0);
        cancel.cancel_query(NoTls).unwrap();
    });
    let error = client.query("select count(n) from numbers", &[]).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57014", "{error:?}");
    assert!(
        error.as_db_error().unwrap().message().contains("user request"),
        "{error:?}"
    );
    calls_off.join().unwrap();
    assert_eq!(client.query("select 1", &[]).unwrap().len(), 1);
}

#[test]
fn what_a_client_asked_ends_when_it_goes_away() {
    let (table, epochs) = slow_numbers(10_000_000, Duration::from_millis(5));
    let metrics = Metrics::default();
    let server = start(
        SqlSettings::default(),
        epochs,
        vec![offered("numbers")],
        metrics.clone(),
    );
    let mut asking = crate::shared::psql_command(&server, "", &["-c", "select count(n) from numbers"])
        .spawn()
        .unwrap();
    wait_for(|| table.made.load(Ordering::SeqCst) > 0);
    asking.kill().unwrap();
    asking.wait().unwrap();
    wait_for(|| metrics.encode().contains("dbb_open_connections{by=\"sql\"} 0"));
    assert!(
        metrics
            .encode()
            .contains("dbb_statements_total{by=\"sql\",outcome=\"cancelled\"} 1")
    );
    let made = table.made.load(Ordering::SeqCst);
    assert!(made < 10_000, "{made}");
}
