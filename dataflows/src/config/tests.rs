#![allow(clippy::unwrap_used)]
//! Whole files: what a site writes, and the exact words it gets for what it writes wrong.

use super::*;

const SITE: &str = r#"
source:
  kafka:
    brokers: [kafka.example.org:9092]
    group_id: dbb-frdf
    topics: ["/^IN2P3_.*-(raw|dp2)$/"]
ledger: {url: "sqlite:/var/lib/dbb/ledger.sqlite"}
rses:
  IN2P3_RAW_DISK:
    prefixes: [{from: "davs://dtn.example.org:443/rucio/raw_disk/", to: "/sps/raw_disk/"}]
routes:
  - {rse: IN2P3_RAW_DISK, scope: raw, repositories: [main]}
repositories:
  main: {butler: /repo/main}
"#;

const INGESTD: &str = r"
brokers:
  - kafka.example.org:9092
group_id: ingestd
butler_repo: /repo/main
num_messages: 50
timeout: 2
topics:
  IN2P3_RAW_DISK-raw:
    rucio_prefix: davs://dtn.example.org:443/rucio/raw_disk/raw
    fs_prefix: /sps/raw_disk/raw
  IN2P3_BUTLER_DISK:
    rucio_prefix: root://dtn.example.org:1094//rucio/
";

fn read(text: &str) -> Result<Loaded, ConfigError> {
    parse(text, "site.yaml", [], &[])
}

/// The lines a user sees for `text`: problems, each with its hint.
fn complaints(text: &str) -> Vec<String> {
    let problems = read(text).err().map(|e| e.problems).unwrap_or_default();
    problems.iter().map(complaint).collect()
}

fn complaint(problem: &Problem) -> String {
    let hint = problem
        .hint
        .as_ref()
        .map(|hint| format!(" -- {hint}"))
        .unwrap_or_default();
    format!("{problem}{hint}")
}

#[test]
fn a_small_site_is_a_short_file() {
    let loaded = read(SITE).unwrap();
    assert_eq!(loaded.form, Form::Native);
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.workers, 1);
    assert_eq!(loaded.config.routes[0].scope.as_deref(), Some("raw"));
}

#[test]
fn the_example_in_the_reference_is_a_valid_file() {
    let page = reference::markdown();
    let example = page
        .split("```yaml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    assert_eq!(read(example).unwrap().warnings, []);
}

#[test]
fn a_misspelt_key_names_file_line_and_the_nearest_key() {
    let text = format!("{SITE}batching:\n  max_datsets: 100\n");
    assert_eq!(
        complaints(&text),
        ["site.yaml:16:3: `batching.max_datsets`: unknown key -- did you mean `max_datasets`?"]
    );
    let text = SITE.replace("rses:", "rsse:");
    assert_eq!(
        complaints(&text),
        ["site.yaml:8:1: `rsse`: unknown key -- did you mean `rses`?"]
    );
}

#[test]
fn gaps_and_outcomes_are_on_when_their_sections_are_there_and_say_what_they_lack() {
    let loaded = read(&format!("{SITE}gaps: {{}}\noutcomes: {{}}\n")).unwrap();
    assert_eq!(loaded.config.followed(), ["IN2P3_RAW_DISK"]);
    let publishes = loaded.config.publishes(None).unwrap();
    assert_eq!(publishes.brokers, ["kafka.example.org:9092"]);
    let text = format!(
        "{SITE}gaps: {{requests: asks, patience_seconds: 0}}\noutcomes: {{topic: \"{{rse}} out\"}}\n"
    );
    assert_eq!(
        complaints(&text),
        [
            "site.yaml:15:8: `gaps.requests`: does not contain `{rse}`: topics of two RSEs would be one",
            "site.yaml:15:24: `gaps.patience_seconds`: must be 1 to 86400, not 0",
            "site.yaml:16:12: `outcomes.topic`: `{rse} out` cannot be the name of a topic",
        ]
    );
}

#[test]
fn everything_that_does_not_fit_is_reported_at_once() {
    let text = r#"
source: {log: {paths: []}}
ledger: {url: /var/lib/ledger}
rses:
  A: {prefixes: []}
  B: {prefixes: [{from: "davs://h/x", to: "sps/"}]}
routes:
  - {rse: A, repositories: [mian]}
  - {rse: A, repositories: [main]}
  - {rse: C, repositories: []}
  - {scope: raw, repositories: [main]}
repositories:
  main: {butler: /repo/main}
  empty: {butler: ""}
workers: 0
http: {listen: nowhere}
"#;
    assert_eq!(
        complaints(text),
        [
            "site.yaml:2:16: `source.log.paths`: must name at least one file or folder",
            "site.yaml:3:10: `ledger.url`: starts with neither `sqlite:` nor `postgres://` -- \
             write `sqlite:/var/lib/dbb/ledger.sqlite` or `postgres://user@host/database`",
            "site.yaml:5:3: `rses.A`: has no prefixes, so that no URL can be mapped -- \
             write `prefixes: [{from: \"davs://host:443/path/\", to: \"/local/path/\"}]`",
            "site.yaml:6:39: `rses.B.prefixes[0].to`: is neither an absolute path nor a URI -- did you mean `/sps/`?",
            "site.yaml:8:29: `routes[0].repositories[0]`: no repository is called `mian` -- did you mean `main`?",
            "site.yaml:9:5: `routes[1]`: is for the same files as `routes[0]` -- \
             name all the repositories in one route",
            "site.yaml:10:6: `routes[2].rse`: no RSE is called `C`",
            "site.yaml:10:14: `routes[2].repositories`: must name at least one repository",
            "site.yaml:11:5: `routes[3]`: names neither `rse` nor `rse_scope`",
            "site.yaml:14:11: `repositories.empty.butler`: is empty",
            "site.yaml:15:1: `workers`: must be 1 to 64, not 0",
            "site.yaml:16:8: `http.listen`: `nowhere` is no address and port -- \
             write `127.0.0.1:9327`, or null for none",
        ]
    );
}

#[test]
fn an_empty_file_says_what_is_needed_first() {
    let complaints = complaints("");
    assert!(complaints[0].starts_with("site.yaml:1:1: `source`: no source is configured -- write `source:"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load(Path::new("no/such/site.yaml"), &[]).unwrap_err().to_string();
    assert_eq!(
        error,
        "no/such/site.yaml: could not be read: No such file or directory (os error 2)"
    );
}

#[test]
fn an_rse_or_a_repository_that_nothing_leads_to_is_a_warning() {
    let text = SITE.replace(
        "main: {butler: /repo/main}",
        "main: {butler: /repo/main}\n  old: {butler: /repo/old}",
    );
    let warnings: Vec<_> = read(&text).unwrap().warnings.iter().map(complaint).collect();
    assert_eq!(
        warnings,
        ["site.yaml:15:3: `repositories.old`: no route leads to it"]
    );
}

#[test]
fn a_topic_that_no_route_is_for_is_a_warning() {
    let topics = "[IN2P3_RAW_DISK-raw, usdf.IN2P3_RAW_DISK-raw, IN2P3_RAW_DISK, IN2P3_RAW_DISK-rwa, X.Y]";
    let text = SITE.replace(r#"["/^IN2P3_.*-(raw|dp2)$/"]"#, topics);
    let warnings: Vec<_> = read(&text).unwrap().warnings.iter().map(complaint).collect();
    assert_eq!(
        warnings,
        [
            "site.yaml:6:75: `source.kafka.topics[3]`: no route is for files of topic `IN2P3_RAW_DISK-rwa`: \
             they are dead letters",
            "site.yaml:6:95: `source.kafka.topics[4]`: no route is for files of topic `X.Y`: they are dead letters",
        ]
    );
}

#[test]
fn the_environment_comes_after_the_file_and_options_come_last() {
    let environment = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let variables = [
        environment("DBB_WORKERS", "2"),
        environment("DBB_BATCHING__MAX_WAIT_MS", "50"),
    ];
    let loaded = parse(SITE, "site.yaml", variables, &["workers=3".into()]).unwrap();
    assert_eq!(
        (loaded.config.workers, loaded.config.batching.max_wait_ms),
        (3, 50)
    );
}

#[test]
fn a_wrong_value_of_a_variable_names_the_variable() {
    let variable = ("DBB_BATCHING__MAX_WAIT_MS".to_owned(), "soon".to_owned());
    let error = parse(SITE, "site.yaml", [variable], &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment variable DBB_BATCHING__MAX_WAIT_MS: `batching.max_wait_ms`: \
         must be a whole number, 0 or more, not the text \"soon\""
    );
    let error = parse(SITE, "site.yaml", [], &["batching.max=1".into()]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "--set batching.max: `batching.max`: unknown key"
    );
}

#[test]
fn a_ctrl_ingestd_file_is_accepted_unchanged() {
    let loaded = read(INGESTD).unwrap();
    assert_eq!((loaded.form, loaded.warnings.len()), (Form::CtrlIngestd, 0));
    let config = loaded.config;
    let kafka = config.source.kafka.unwrap();
    assert_eq!(kafka.brokers, ["kafka.example.org:9092"]);
    assert_eq!(kafka.group_id, "ingestd");
    assert_eq!(kafka.topics, ["IN2P3_RAW_DISK-raw", "IN2P3_BUTLER_DISK"]);
    assert_eq!(
        (config.batching.max_datasets, config.batching.max_wait_ms),
        (50, 2000)
    );
    assert_eq!(config.repositories["main"].butler, "/repo/main");
    // The trailing slash is added as that program adds it; no local prefix stays none.
    let prefixes: Vec<_> = config.routes.iter().map(|r| r.prefixes[0].clone()).collect();
    assert_eq!(prefixes[0].from, "davs://dtn.example.org:443/rucio/raw_disk/raw/");
    assert_eq!(prefixes[0].to, "/sps/raw_disk/raw/");
    assert_eq!(
        (prefixes[1].from.as_str(), prefixes[1].to.as_str()),
        ("root://dtn.example.org:1094//rucio/", "")
    );
    assert_eq!(config.routes[1].rse_scope.as_deref(), Some("IN2P3_BUTLER_DISK"));
    assert_eq!(config.ledger.url, "sqlite:dbb-ledger.sqlite");
}

#[test]
fn without_its_numbers_a_ctrl_ingestd_file_gets_our_batches() {
    let text = INGESTD.replace("num_messages: 50\ntimeout: 2\n", "");
    assert_eq!(
        read(&text).unwrap().config.batching,
        dbb_operators::Batching::default()
    );
}

#[test]
fn an_unknown_key_of_a_ctrl_ingestd_file_is_ignored_with_a_warning() {
    let text = INGESTD
        .replace("num_messages", "num_mesages")
        .replace("fs_prefix", "fs_prefx");
    let warnings: Vec<_> = read(&text).unwrap().warnings.iter().map(complaint).collect();
    assert_eq!(
        warnings,
        [
            "site.yaml:6:1: `num_mesages`: unknown key, ignored as ctrl_ingestd does -- did you mean `num_messages`?",
            "site.yaml:11:5: `topics.IN2P3_RAW_DISK-raw.fs_prefx`: unknown key, ignored as ctrl_ingestd does -- \
             did you mean `fs_prefix`?",
        ]
    );
}

#[test]
fn what_a_ctrl_ingestd_file_lacks_is_said_in_its_own_words() {
    let text = "brokers: [a:9092]\ntopics:\n  T-raw: {fs_prefix: /x}\n";
    assert_eq!(
        complaints(text),
        [
            "site.yaml:1:1: `group_id` is missing -- write `group_id: <the consumer group>`",
            "site.yaml:1:1: `butler_repo` is missing -- write `butler_repo: <repository>`",
            "site.yaml:3:3: `topics.T-raw`: `rucio_prefix` is missing",
        ]
    );
}

#[test]
fn a_ctrl_ingestd_file_older_than_2_0_is_told_what_to_write() {
    let text = "brokers: a:9092,b:9092\ngroup_id: g\nbutler: {repo: /repo}\nrses: {}\n";
    assert_eq!(
        complaints(text),
        [
            "site.yaml:1:1: `brokers`: text in place of a list was removed in ctrl_ingestd 2.0 -- \
             write `brokers: [a:9092, b:9092]`",
            "site.yaml:3:1: `butler`: this section was removed in ctrl_ingestd 2.0 -- \
             write `butler_repo: <repository>`",
            "site.yaml:4:1: `rses`: this section was removed in ctrl_ingestd 2.0 -- \
             write `topics:` with one entry for each topic, each with `rucio_prefix` and `fs_prefix`",
        ]
    );
}

#[test]
fn our_own_sections_may_stand_in_a_ctrl_ingestd_file() {
    let text = format!("{INGESTD}ledger: {{url: \"sqlite:/var/lib/l\"}}\n");
    assert_eq!(read(&text).unwrap().config.ledger.url, "sqlite:/var/lib/l");
    let text = format!("{INGESTD}ledger: {{ulr: \"sqlite:/var/lib/l\"}}\n");
    assert_eq!(
        complaints(&text),
        ["site.yaml:14:10: `ledger.ulr`: unknown key -- did you mean `url`?"]
    );
}

#[test]
fn the_sections_of_the_program_are_those_of_the_schema() {
    let schema = reference::schema();
    let mut of_schema: Vec<_> = schema["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut ours = SECTIONS.to_vec();
    of_schema.sort_unstable();
    ours.sort_unstable();
    assert_eq!(of_schema, ours);
}

/// `UPDATE_DOCS=1 cargo test -p dbb` writes the pages.
#[test]
fn the_reference_and_the_schema_are_current() {
    let schema = format!(
        "{}\n",
        serde_json::to_string_pretty(&reference::schema()).unwrap()
    );
    for (name, page) in [
        ("configuration.md", reference::markdown()),
        ("config.schema.json", schema),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == page,
            "docs/{name} is stale: run UPDATE_DOCS=1 cargo test -p dbb"
        );
    }
}

#[test]
fn every_key_of_the_reference_has_its_meaning() {
    for line in reference::markdown()
        .lines()
        .filter(|line| line.starts_with("| `"))
    {
        let meaning = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        assert!(!meaning.trim().is_empty(), "{line}");
    }
}

#[test]
fn what_can_be_read_only_once_keeps_no_views_and_says_what_to_do_first() {
    let broker = "source: {stomp: {brokers: [\"mq:61613\"], destination: /topic/e}}\n";
    // Nothing but a source: it may be there to be recorded.
    assert_eq!(complaints(broker), [""; 0]);
    let hint = "put its events into a Kafka topic with `dbb record`, and keep views of that";
    let words = |source: &str| {
        format!(
            "site.yaml:2:9: `views.keep`: views need a source that can be read again, and `{source}` gives each event \
             once -- {hint}"
        )
    };
    let views = "views: {keep: [replicas]}\n";
    assert_eq!(complaints(&format!("{broker}{views}")), [words("stomp")]);
    let outbox = "source: {outbox: {url: \"postgresql://rucio/rucio\", service: Influx}}\n";
    assert_eq!(complaints(&format!("{outbox}{views}")), [words("outbox")]);
}

#[test]
fn one_source_of_events_is_enough_and_its_faults_are_named_by_key() {
    let text = "source:\n  stomp: {brokers: [mq], destination: events}\n  outbox: {url: mysql://h/d, service: Influx}\nrecord: {topic: t}\n";
    let complaints: Vec<_> = complaints(text)
        .into_iter()
        .map(|text| text.replace("site.yaml:", ""))
        .collect();
    assert_eq!(
        complaints,
        [
            "1:1: `source`: both `stomp` and `outbox` are given; one dataflow reads one of them",
            "2:21: `source.stomp.brokers[0]`: `mq` is no `host:port`",
            "2:26: `source.stomp.destination`: is neither `/topic/NAME` nor `/queue/NAME`",
            "3:12: `source.outbox.url`: does not start with `postgresql://`",
            "4:1: `record`: has a `topic` and no `kafka` -- write `kafka: {brokers: [...]}` beside it",
        ]
    );
}

const HUB: &str = r#"
source:
  kafka: {brokers: [kafka.example.org:9092], group_id: dbb-hub, topics: [rucio-events]}
ledger: {url: "sqlite:/var/lib/dbb/ledger.sqlite"}
hub:
  publish: {kafka: {brokers: [kafka.example.org:9092]}, sent_log: {folder: /var/lib/dbb/sent}}
  lookup: {rucio: {url: "https://rucio.example.org", account: dbb, auth: {token_file: /run/dbb/token}}}
"#;

#[test]
fn a_hub_is_a_short_file_too() {
    let loaded = read(HUB).unwrap();
    assert_eq!(loaded.warnings, []);
    let hub = loaded.config.hub.unwrap();
    assert_eq!(hub.topics.landed, "{rse}-{scope}");
    assert_eq!(hub.asking.max_files, 500);
}

#[test]
fn a_hub_that_could_mislead_sites_is_refused() {
    let with = |more: &str| -> Vec<String> {
        let said = complaints(&format!("{HUB}{more}")).into_iter();
        // Without file, line and column.
        said.map(|line| {
            line.split_once('`')
                .map_or_else(String::new, |(_, what)| what.replace('`', ""))
        })
        .collect()
    };
    assert_eq!(
        with("  topics: {deletions: \"\", files: \"\", dead_letters: \"a b\"}\n"),
        [
            "hub.topics.deletions: is empty: sites would read what they must not register",
            "hub.topics.files: is empty: sites would read what they must not register",
            "hub.topics.files: is the same as deletions",
            "hub.topics.dead_letters: a b is no name of a topic",
        ]
    );
    assert_eq!(
        with("  embargoes: [{name: early, partners: []}]\n"),
        ["hub.embargoes[0].partners: is empty: the embargo would hold nothing"]
    );
    let workers = with("workers: 8\n");
    assert_eq!(workers, ["hub.lookup.threads: must be at least workers, 8"]);
    let both = with("repositories: {main: {butler: /repo/main}}\n");
    assert!(
        both[0].contains("repositories: has no place beside hub"),
        "{both:?}"
    );
}
