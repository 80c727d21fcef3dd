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
fn no_room_for_anybody_is_said_after_a_while_and_taken_back() {
    let (_, epochs) = numbers(10);
    let settings = SqlSettings {
        max_connections: 1,
        ..SqlSettings::default()
    };
    let server = start(settings, epochs, vec![offered("numbers")], Metrics::default());
    let health = Arc::new(Health::new(Duration::from_secs(3600)));
    server.tell(&health);
    let told = || health.readiness().reasons.get("sql").cloned();
    let taken = Client::connect(&server, "");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(told(), None, "too early");
    wait_for(|| told().is_some());
    assert!(told().unwrap().contains("all 1 connections"), "{:?}", told());
    drop(taken);
    wait_for(|| told().is_none());
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

#[test]
fn statements_are_shown_and_called_off_by_the_number_of_their_connection() {
    let (table, epochs) = slow_numbers(10_000_000, Duration::from_millis(5));
    let server = start(
        SqlSettings::default(),
        epochs,
        vec![offered("numbers")],
        Metrics::default(),
    );
    let mut looks = Client::connect(&server, "user=looker");
    for (ends, code) in [
        ("pg_cancel_backend", Some("57014")),
        ("pg_terminate_backend", None),
    ] {
        let mut asks = Client::connect(&server, "user=asker");
        let pid: i32 = asks.query_one("select pg_backend_pid()", &[]).unwrap().get(0);
        let asking =
            std::thread::spawn(move || asks.query("select  count(n)\nfrom numbers", &[]).unwrap_err());
        let shown = "select pid, state from statements() where \"user\" = 'asker' and statement = 'select count(n) from numbers'";
        // Before that it was planned, and had ended once.
        wait_for(|| table.made.swap(0, Ordering::SeqCst) > 0);
        let mut rows = Vec::new();
        while rows.is_empty() {
            rows = looks.query(shown, &[]).unwrap();
        }
        assert_eq!(
            (rows[0].get::<_, i32>(0), rows[0].get::<_, &str>(1)),
            (pid, "working")
        );
        let end = format!("select {ends}({pid}), {ends}(1)");
        let told = looks.query_one(&end, &[]).unwrap();
        assert_eq!((told.get::<_, bool>(0), told.get::<_, bool>(1)), (true, false));
        let error = asking.join().unwrap();
        assert_eq!(
            error.code().map(postgres::error::SqlState::code),
            code,
            "{ends}: {error:?}"
        );
    }
    let mine = looks.query("select \"user\" from statements()", &[]).unwrap();
    assert_eq!(
        mine.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>(),
        ["looker"]
    );
}

#[test]
fn a_panic_of_a_library_is_the_error_of_its_statement() {
    let (_, epochs) = numbers(10);
    let metrics = Metrics::default();
    let server = start(
        SqlSettings::default(),
        epochs,
        vec![offered("numbers")],
        metrics.clone(),
    );
    let mut client = Client::connect(&server, "");
    for sql in [
        "select row(0.1::decimal(38,30))",
        "select list_push_front(99999999999999999999999999999999999999::decimal(38,0), make_array())",
    ] {
        let error = client.simple_query(sql).map(|_| ()).unwrap_err();
        let told = error.as_db_error().unwrap();
        assert_eq!(told.code().code(), "XX000", "{sql}: {told}");
        assert_eq!(client.query("select 1", &[]).unwrap().len(), 1);
    }
}

#[test]
fn prepared_statements_have_a_limit_and_are_given_back() {
    let (_, epochs) = numbers(10);
    let server = start(
        SqlSettings::default(),
        epochs,
        vec![offered("numbers")],
        Metrics::default(),
    );
    let mut client = Client::connect(&server, "");
    let mut prepared = Vec::new();
    let error = loop {
        match client.prepare("select n from numbers where n > $1") {
            Ok(statement) => prepared.push(statement),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code().unwrap().code(), "54000", "{error:?}");
    assert!((200..=256).contains(&prepared.len()), "{}", prepared.len());
    prepared.clear();
    client.simple_query("select 1").unwrap();
    client.prepare("select n from numbers where n > $1").unwrap();
}

#[test]
fn the_longest_and_deepest_statements_that_may_be_asked_are_answered() {
    let (_, epochs) = numbers(10);
    let server = start(
        SqlSettings::default(),
        epochs,
        vec![offered("numbers")],
        Metrics::default(),
    );
    let mut client = Client::connect(&server, "");
    for sql in [
        format!("select {}1", "1+".repeat(590)),
        format!("select 1{}", "::bigint".repeat(290)),
        format!("select {}true", "not ".repeat(40)),
        format!("select {}1{}", "(".repeat(15), ")".repeat(15)),
        format!("select {}1{}", "abs(".repeat(15), ")".repeat(15)),
        format!(
            "select count(*) from numbers where {}n = 5",
            "n = 3 or ".repeat(290)
        ),
        format!("select count(*) from numbers where n in ({}1)", "7,".repeat(5000)),
        format!("select 1{}", " union all select 1".repeat(99)),
        format!(
            "select count(*) from numbers a{}",
            (0..40)
                .map(|at| format!(" join numbers b{at} on b{at}.n = a.n"))
                .collect::<String>()
        ),
    ] {
        if let Err(error) = client.simple_query(&sql) {
            // The parser has a limit of its own on what is nested, which is well below.
            let error = error.as_db_error().unwrap();
            assert!(
                ["54001", "42601", "57014"].contains(&error.code().code()),
                "{}: {error}",
                &sql[..60]
            );
        }
        assert_eq!(
            client.query("select 1", &[]).unwrap().len(),
            1,
            "after {}",
            &sql[..60]
        );
    }
}
