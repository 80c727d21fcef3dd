//! Views over HTTP.

use crate::shared::{Numbers, offered, published, wait_for};
use arrow::ipc::reader::StreamReader;
use dbb_operators::{publish::Publisher, views::Table};
use dbb_serving::{
    Health, Limits, Metrics, ServeError, Server,
    http::{ViewsApi, ViewsSettings},
    secret::SecretPlace,
    serve_with_views,
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// A status, headers in lower case, and a body; the body is cut off where the connection was.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
    is_whole: bool,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines();
        lines
            .filter_map(|line| line.split_once(": "))
            .find(|(n, _)| *n == name)
            .map(|(_, value)| value)
    }
}

fn ask(server: &Server, path: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", server.address().port())).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n"
    )
    .unwrap();
    let mut all = Vec::new();
    // A connection that breaks has still said something.
    let _ = stream.read_to_end(&mut all);
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(all[..end].to_vec()).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let rest = &all[end + 4..];
    let (body, is_whole) = if head.contains("transfer-encoding: chunked") {
        unchunk(rest)
    } else {
        (rest.to_vec(), true)
    };
    Answer {
        status,
        head,
        body,
        is_whole,
    }
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if length == 0 {
            return (body, true);
        }
        let start = line + 2;
        let end = (start + length).min(rest.len());
        body.extend_from_slice(&rest[start..end]);
        rest = &rest[(end + 2).min(rest.len())..];
    }
    (body, false)
}

fn start(
    settings: ViewsSettings,
    table: Numbers,
    metrics: Metrics,
) -> (Server, Arc<std::sync::atomic::AtomicUsize>) {
    let made = Arc::clone(&table.made);
    let epoch = published(3, vec![("numbers", Arc::new(table) as Arc<dyn Table>)]);
    let views = vec![offered("numbers"), offered("other")];
    let api = ViewsApi::new(&settings, Arc::new(epoch), views, metrics.clone()).unwrap();
    let health = Arc::new(Health::new(Duration::MAX));
    (
        serve_with_views("127.0.0.1:0", &Limits::default(), metrics, health, Some(api)).unwrap(),
        made,
    )
}

fn three() -> Server {
    start(ViewsSettings::default(), Numbers::new(0, 3), Metrics::default()).0
}

#[test]
fn views_are_listed_with_their_meaning_cost_and_columns() {
    let answer = ask(&three(), "/api/v1/views", "");
    assert_eq!(answer.status, 200);
    let listed: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let view = &listed["views"][0];
    assert_eq!(
        (view["name"].as_str(), view["meaning"].as_str()),
        (Some("numbers"), Some("Some numbers."))
    );
    assert_eq!(view["cost"], "Nothing.");
    assert_eq!(
        view["columns"][1],
        serde_json::json!({"name": "n", "type": "Int64", "nullable": false})
    );
    assert_eq!(answer.header("dbb-epoch"), Some("3"));
}

#[test]
fn rows_come_as_json_ndjson_or_arrow_with_their_epoch() {
    let server = three();
    let answer = ask(&server, "/api/v1/views/numbers", "");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        (
            answer.header("dbb-epoch"),
            answer.header("dbb-as-of"),
            answer.header("dbb-offsets")
        ),
        (
            Some("3"),
            Some("2023-11-14t22:13:20.000003z"),
            Some("events:0=10")
        )
    );
    assert_eq!(
        answer.text(),
        "[{\"name\":\"name-0\",\"n\":0},\n{\"name\":\"name-1\",\"n\":1},\n{\"name\":\"name-2\",\"n\":2}]\n"
    );
    let answer = ask(&server, "/api/v1/views/numbers?format=ndjson&limit=2", "");
    assert_eq!(
        answer.text(),
        "{\"name\":\"name-0\",\"n\":0}\n{\"name\":\"name-1\",\"n\":1}\n"
    );
    let answer = ask(&server, "/api/v1/views/numbers?name=name-9", "");
    assert_eq!(answer.text(), "[]\n");
    let answer = ask(
        &server,
        "/api/v1/views/numbers?columns=n",
        "accept: application/vnd.apache.arrow.stream\r\n",
    );
    let batches: Vec<_> = StreamReader::try_new(&*answer.body, None)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!((batches[0].num_rows(), batches[0].num_columns()), (3, 1));
}

#[test]
fn rows_are_chosen_by_the_text_in_their_columns() {
    let (server, _) = start(
        ViewsSettings::default(),
        Numbers::new(0, 2500),
        Metrics::default(),
    );
    let answer = ask(
        &server,
        "/api/v1/views/numbers?name=name-3&columns=n&format=ndjson",
        "",
    );
    let numbers: Vec<_> = answer.text().lines().collect();
    assert_eq!(
        (numbers.len(), numbers[0], numbers[249]),
        (250, "{\"n\":3}", "{\"n\":2493}")
    );
    let answer = ask(
        &server,
        "/api/v1/views/numbers?name=name-3&limit=201&format=ndjson",
        "",
    );
    assert_eq!(answer.text().lines().count(), 201);
}

#[test]
fn what_is_wrong_is_named() {
    let server = three();
    for (path, status, error) in [
        (
            "/api/v1/views/nombres",
            404,
            "there is no view `nombres`; there are numbers, other",
        ),
        (
            "/api/v1/views/numbers?nom=a",
            400,
            "there is no column `nom`; there are name, n",
        ),
        (
            "/api/v1/views/numbers?limit=x",
            400,
            "limit `x` is no number of rows",
        ),
        (
            "/api/v1/views/other",
            503,
            "view `other` is not published yet; ask again in a moment",
        ),
    ] {
        let answer = ask(&server, path, "");
        let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            (answer.status, said["error"].as_str()),
            (status, Some(error)),
            "{path}"
        );
    }
}

#[test]
fn a_token_opens_the_views_and_health_needs_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "open-sesame\n").unwrap();
    let settings = ViewsSettings {
        token: Some(SecretPlace::File(path)),
        ..ViewsSettings::default()
    };
    let (server, _) = start(settings, Numbers::new(0, 3), Metrics::default());
    for path in ["/api/v1/views", "/api/v1/views/numbers"] {
        for wrong in [
            "",
            "authorization: Bearer open-barley\r\n",
            "authorization: Basic open-sesame\r\n",
            "authorization: Bearer \r\n",
        ] {
            let answer = ask(&server, path, wrong);
            assert_eq!(
                (answer.status, answer.header("www-authenticate")),
                (401, Some("bearer")),
                "{wrong}"
            );
        }
        assert_eq!(
            ask(&server, path, "authorization: Bearer open-sesame\r\n").status,
            200
        );
    }
    assert_eq!(ask(&server, "/livez", "").status, 200);
    assert_eq!(ask(&server, "/metrics", "").status, 200);
}

#[test]
fn off_loopback_views_need_a_token() {
    let epochs: Arc<dyn dbb_serving::sql::Epochs> = Arc::new(Publisher::new(1));
    let api = ViewsApi::new(&ViewsSettings::default(), epochs, vec![], Metrics::default()).unwrap();
    let health = Arc::new(Health::new(Duration::MAX));
    let error = serve_with_views(
        "0.0.0.0:0",
        &Limits::default(),
        Metrics::default(),
        health,
        Some(api),
    )
    .unwrap_err();
    assert!(matches!(error, ServeError::Unprotected { .. }));
    assert_eq!(
        error.to_string(),
        "`0.0.0.0:0` is not this host alone, so a token is needed: set `http.views.token`, or listen on 127.0.0.1"
    );
}

#[test]
fn an_answer_that_takes_too_long_or_has_too_many_rows_breaks_off() {
    let slow = Numbers {
        slow: Duration::from_millis(5),
        ..Numbers::new(0, 10_000_000)
    };
    let settings = ViewsSettings {
        request_timeout_ms: 200,
        ..ViewsSettings::default()
    };
    let metrics = Metrics::default();
    let (server, made) = start(settings, slow, metrics.clone());
    let answer = ask(&server, "/api/v1/views/numbers?format=ndjson", "");
    assert!(answer.status == 200 && !answer.is_whole && !answer.body.is_empty());
    assert!(made.load(Ordering::SeqCst) < 10_000);
    wait_for(|| {
        metrics
            .encode()
            .contains("dbb_statements_total{by=\"http\",outcome=\"timed_out\"} 1")
    });
    let settings = ViewsSettings {
        max_rows: 2500,
        ..ViewsSettings::default()
    };
    let (server, _) = start(settings, Numbers::new(0, 10_000), Metrics::default());
    let answer = ask(&server, "/api/v1/views/numbers?format=ndjson", "");
    assert!(!answer.is_whole);
    let answer = ask(&server, "/api/v1/views/numbers?format=ndjson&limit=2500", "");
    assert!(answer.is_whole);
    assert_eq!(answer.text().lines().count(), 2500);
}

#[test]
fn probes_are_answered_while_all_places_are_taken_by_slow_clients() {
    let settings = ViewsSettings {
        max_requests: 1,
        ..ViewsSettings::default()
    };
    let metrics = Metrics::default();
    let (server, made) = start(settings, Numbers::new(0, 10_000_000), metrics.clone());
    let mut slow = TcpStream::connect(server.address()).unwrap();
    write!(
        slow,
        "GET /api/v1/views/numbers HTTP/1.1\r\nhost: localhost\r\n\r\n"
    )
    .unwrap();
    wait_for(|| made.load(Ordering::SeqCst) > 0);
    let answer = ask(&server, "/api/v1/views/numbers", "");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(ask(&server, "/livez", "").status, 200);
    // Nothing is made that nobody takes.
    assert!(made.load(Ordering::SeqCst) < 10_000);
    drop(slow);
    wait_for(|| metrics.encode().contains("dbb_open_connections{by=\"http\"} 0"));
    assert_eq!(ask(&server, "/api/v1/views/numbers?limit=1", "").status, 200);
}

#[test]
fn views_without_a_token_are_asked_by_a_name_of_this_host_alone() {
    let evil = "host: evil.example.org\r\n";
    for path in ["/api/v1/views", "/api/v1/views/numbers"] {
        let answer = ask(&three(), path, evil);
        assert_eq!(answer.status, 421, "{}", answer.text());
        assert!(answer.text().contains("http.hosts"), "{}", answer.text());
    }
    // Where a token is needed, a page that has none gets nothing, whatever the name.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "open sesame\n").unwrap();
    let settings = ViewsSettings {
        token: Some(SecretPlace::File(file)),
        ..ViewsSettings::default()
    };
    let (server, _) = start(settings, Numbers::new(0, 3), Metrics::default());
    let answer = ask(
        &server,
        "/api/v1/views/numbers",
        "host: evil.example.org\r\nauthorization: Bearer open sesame\r\n",
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_column_asked_for_a_thousand_times_is_refused() {
    let many = vec!["name"; 1000].join(",");
    let answer = ask(&three(), &format!("/api/v1/views/numbers?columns={many}"), "");
    assert_eq!(
        (answer.status, answer.text()),
        (400, "{\"error\":\"column `name` is asked for twice\"}")
    );
}
