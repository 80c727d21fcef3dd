//! What is not the protocol costs whoever says it the connection, and nobody else anything.

use super::{
    raw::{Raw, declared, error, framed},
    *,
};
use dbb_serving::doors::{Reason, refused_so_far};

fn one(server: &dbb_serving::pg::SqlServer, how: &str) {
    let mut client = Client::connect(server, how);
    assert_eq!(client.query_one("select 1", &[]).unwrap().get::<_, i64>(0), 1);
}

fn with_password() -> (tempfile::TempDir, dbb_serving::pg::SqlServer) {
    let folder = tempfile::tempdir().unwrap();
    let password_file = folder.path().join("password");
    std::fs::write(&password_file, "open sesame\n").unwrap();
    let settings = SqlSettings {
        users: BTreeMap::from([("ali".into(), SecretPlace::File(password_file))]),
        ..SqlSettings::default()
    };
    let (_, epochs) = numbers(10);
    (
        folder,
        start(settings, epochs, vec![offered("numbers")], Metrics::default()),
    )
}

#[test]
fn malformed_messages_before_the_login_end_that_connection_alone() {
    let (_folder, server) = with_password();
    let mut cases: Vec<(Vec<u8>, &str)> = b"PBEDCQHSFdcf\x00\xff"
        .iter()
        .map(|kind| (declared(*kind, 4, b""), "before the password was proven"))
        .collect();
    for length in [0, 3, 1 << 30, 1 << 31, u32::MAX] {
        cases.push((declared(b'p', length, b""), "by its own account"));
    }
    let mechanism = b"SCRAM-SHA-256\0";
    for (rest, said) in [
        (&b""[..], "ends within its numbers"),
        (b"\x00\x00", "ends within its numbers"),
        (b"\xff\xff\xff\xfe", "ends within its first response"),
        (b"\x80\x00\x00\x00", "ends within its first response"),
        (b"\x7f\xff\xff\xff", "ends within its first response"),
        (b"\x00\x00\x00\x05n,,", "ends within its first response"),
        (b"\x00\x00\x00\x01n,,", "more than its fields"),
    ] {
        cases.push((framed(b'p', &[&mechanism[..], rest].concat()), said));
    }
    cases.push((framed(b'p', b""), "ends within its mechanism"));
    cases.push((framed(b'p', b"SCRAM-SHA-256"), "ends within its mechanism"));
    for (bytes, said) in cases {
        let mut raw = Raw::started(&server);
        raw.say(&bytes);
        let told = raw.end();
        let (state, message) = error(told.last().unwrap());
        assert_eq!(state, "08P01", "{bytes:?}: {message}");
        assert!(message.contains(said), "{bytes:?}: {message}");
        one(&server, "user=ali password='open sesame'");
    }
    // Well-formed, and still no way in.
    for response in [&b""[..], b"n,,", b"y", b",,,,", b"p=x,,n=,r=", b"\xff\xfe"] {
        let mut raw = Raw::started(&server);
        let length = (response.len() as u32).to_be_bytes();
        raw.say(&framed(b'p', &[&mechanism[..], &length, response].concat()));
        raw.say(&framed(b'p', response));
        raw.say(&framed(b'p', response));
        let told = raw.end();
        assert!(
            !told.iter().any(|(kind, _)| *kind == b'Z'),
            "{response:?}: {told:?}"
        );
        one(&server, "user=ali password='open sesame'");
    }
}

#[test]
fn first_messages_that_are_none_are_answered_and_closed() {
    let (_folder, server) = with_password();
    let before = refused_so_far("sql", Reason::Malformed);
    let cases = [
        &b"\x00\x00\x00\x00"[..],
        b"\x00\x00\x00\x07\x00\x03\x00",
        b"\x40\x00\x00\x00\x00\x03\x00\x00",
        b"\xff\xff\xff\xff\x00\x03\x00\x00",
        b"\x00\x00\x00\x08\x00\x03\x00\x00",
        b"\x00\x00\x00\x0d\x00\x03\x00\x00user\0",
        b"\x00\x00\x00\x09\x00\x09\x00\x00\0",
        b"\x00\x00\x00\x0c\x04\xd2\x16\x2e\x00\x00\x00\x01",
        b"\x00\x00\x00\x0e\x04\xd2\x16\x2e\x00\x00\x00\x01ab",
        b"\x00\x00\x00\x09\x04\xd2\x16\x2fx",
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    for bytes in cases {
        let mut raw = Raw::connect(&server);
        raw.say(bytes);
        let told = raw.end();
        assert_eq!(error(told.last().unwrap()).0, "08P01", "{bytes:?}");
    }
    // A wish is granted or not, once.
    let mut raw = Raw::connect(&server);
    raw.say(
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f\x00\x00\x00\x08\x04\xd2\x16\x30\x00\x00\x00\x08\x04\xd2\x16\x2f",
    );
    let mut answers = Vec::new();
    std::io::Read::read_to_end(&mut raw.0, &mut answers).unwrap();
    assert_eq!(&answers[..2], b"NN");
    assert!(String::from_utf8_lossy(&answers).contains("encryption is wished for twice"));
    one(&server, "user=ali password='open sesame'");
    assert!(refused_so_far("sql", Reason::Malformed) > before + cases.len() as u64);
}

#[test]
fn malformed_messages_after_the_login_end_that_connection_alone() {
    let server = usage_server();
    let parse = framed(b'P', b"\0select $1::interval\0\x00\x01\x00\x00\x04\xa2");
    let cases = [
        (declared(b'P', 4, b""), "ends within its name"),
        (declared(b'B', 4, b""), "ends within its name of a portal"),
        (declared(b'E', 4, b""), "ends within its name of a portal"),
        (declared(b'D', 4, b""), "ends within its kind of thing"),
        (declared(b'C', 4, b""), "ends within its kind of thing"),
        (declared(b'Q', 4, b""), "ends within its statement"),
        (declared(b'd', 3, b""), "too short"),
        (declared(b'c', 5, b"x"), "more than its fields"),
        (declared(b'f', 4, b""), "ends within its reason"),
        (framed(b'B', b"\0\0"), "ends within its formats of parameters"),
        (
            framed(b'B', b"\0\0\x00\x01"),
            "ends within its formats of parameters",
        ),
        (framed(b'B', b"\0\0\x00\x00\x00\x01"), "ends within its numbers"),
        (
            framed(b'B', b"\0\0\x00\x00\x00\x01\x7f\xff\xff\xff"),
            "ends within its values",
        ),
        (
            framed(b'B', b"\0\0\x00\x00\xff\xff\x00\x00\x00\x00"),
            "ends within its numbers",
        ),
        (
            framed(b'B', b"\0\0\x00\x00\x00\x00\xff\xff"),
            "ends within its formats of columns",
        ),
        (framed(b'P', b"\0select 1\0\xff\xff"), "ends within its types"),
        (framed(b'P', b"\0select 1\0"), "ends within its number of types"),
        (framed(b'P', b"\0select 1"), "ends within its statement"),
        (framed(b'p', b"open sesame\0"), "a password after the login"),
        (framed(b'F', b"\x00\x00\x00\x01"), "function calls are not served"),
        (declared(b'Q', 1 << 30, b"select"), "at most 2097152 are taken"),
        (declared(b'Q', u32::MAX, b"select"), "at most 2097152 are taken"),
        (declared(b'D', 20_000, b"S"), "at most 10000 are taken"),
    ];
    for (bytes, said) in cases {
        let mut raw = Raw::started(&server);
        raw.say(&parse);
        raw.say(&bytes);
        let told = raw.end();
        let (state, message) = error(told.last().unwrap());
        assert_eq!(state, "08P01", "{bytes:?}: {message}");
        assert!(message.contains(said), "{bytes:?}: {message}");
        one(&server, "");
    }
}

#[test]
fn binary_values_of_the_wrong_size_are_errors_of_their_statement() {
    let server = usage_server();
    let array = |values: u32, rest: &[u8]| {
        let head = [1, 0, 23, values, 1].map(u32::to_be_bytes).concat();
        [&head[..], rest].concat()
    };
    let oid = |kind: postgres::types::Type| kind.oid();
    use postgres::types::Type;
    let cases = [
        ("interval", oid(Type::INTERVAL), vec![0; 3]),
        ("interval", oid(Type::INTERVAL), vec![]),
        ("interval", oid(Type::INTERVAL), vec![0x7f; 16]),
        ("bigint", oid(Type::INT8), vec![0; 3]),
        ("timestamp", oid(Type::TIMESTAMP), vec![0; 7]),
        ("date", oid(Type::DATE), vec![0; 5]),
        ("numeric", oid(Type::NUMERIC), vec![0xff; 8]),
        ("int[]", oid(Type::INT4_ARRAY), vec![0; 3]),
        (
            "int[]",
            oid(Type::INT4_ARRAY),
            array(u32::MAX >> 1, b"\x00\x00\x00\x04"),
        ),
        (
            "int[]",
            oid(Type::INT4_ARRAY),
            array(1, b"\x00\x00\x00\x02\x00\x01"),
        ),
        (
            "interval[]",
            oid(Type::INTERVAL_ARRAY),
            array(1, b"\x00\x00\x00\x01\x00"),
        ),
    ];
    for (kind, oid, value) in cases {
        let mut raw = Raw::started(&server);
        let statement = format!("\0select $1::{kind}\0");
        raw.say(&framed(
            b'P',
            &[statement.as_bytes(), b"\x00\x01", &oid.to_be_bytes()].concat(),
        ));
        let length = (value.len() as u32).to_be_bytes();
        raw.say(&framed(
            b'B',
            &[b"\0\0\x00\x01\x00\x01\x00\x01", &length[..], &value, b"\x00\x00"].concat(),
        ));
        raw.say(&framed(b'E', b"\0\x00\x00\x00\x00"));
        raw.say(&framed(b'S', b""));
        let told: Vec<_> = std::iter::from_fn(|| raw.hear())
            .take_while(|message| message.0 != b'Z')
            .collect();
        let (state, message) = error(told.last().unwrap());
        assert!(
            state == "22P03" || state == "0A000",
            "{kind} {value:?}: {state} {message}"
        );
        // The connection goes on.
        raw.say(&framed(b'Q', b"select 1\0"));
        assert!(
            std::iter::from_fn(|| raw.hear()).any(|message| message.0 == b'D'),
            "{kind} {value:?}"
        );
        one(&server, "");
    }
}

#[test]
fn large_statements_and_values_are_taken_up_to_the_limit() {
    let server = usage_server();
    let mut client = Client::connect(&server, "");
    let long = "x".repeat(1 << 20);
    let row = client.query_one("select length($1::text)", &[&long]).unwrap();
    assert_eq!(row.get::<_, i32>(0), 1 << 20);
    let longer = "x".repeat(3 << 20);
    client
        .query_one("select length($1::text)", &[&longer])
        .unwrap_err();
    let mut raw = Raw::started(&server);
    raw.say(&framed(b'Q', format!("select '{longer}'\0").as_bytes()));
    let told = raw.end();
    assert_eq!(error(told.last().unwrap()).0, "08P01");
    one(&server, "");
}
