//! The YAML file of ctrl_ingestd, read as it is.
//!
//! ```text
//!   brokers, group_id, topics --> source.kafka          topics: {T: {rucio_prefix, fs_prefix}} --> routes
//!   butler_repo, its transfer modes --> repositories    num_messages, timeout --> batching
//! ```
//!
//! The tree it is turned into keeps the lines of the file it came from. The group's committed offsets are the
//! start. Sections of this program that have no counterpart there (`ledger`, `http`, `log`, ...) may stand in the
//! same file: that program ignores them.

use super::{
    node::{Entry, Node, Value},
    problem::{ConfigError, Origin, Problem, nearest},
};

/// The keys of that program.
const KEYS: [&str; 7] = [
    "brokers",
    "client_id",
    "group_id",
    "num_messages",
    "timeout",
    "butler_repo",
    "topics",
];
/// Sections of ours that may stand beside them.
const OURS: [&str; 9] = [
    "ledger", "batching", "workers", "identify", "limits", "shutdown", "http", "views", "sql",
];
/// The name of its one repository here.
pub const REPOSITORY: &str = "main";

/// True for a file of that program.
pub fn is_ctrl_ingestd(tree: &Node) -> bool {
    let theirs = ["brokers", "group_id", "butler_repo"]
        .iter()
        .any(|key| tree.get(key).is_some());
    let native = ["source", "routes", "repositories"]
        .iter()
        .any(|key| tree.get(key).is_some());
    theirs && !native
}

/// The same configuration in our own form, and what was ignored in it.
pub fn convert(tree: &Node) -> Result<(Node, Vec<Problem>), ConfigError> {
    let mut problems = removed_keys(tree);
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let root = &tree.origin;
    let mut native = Node::map(root);
    let mut kafka = Node::map(root);
    let mut batching = Node::map(root);
    let mut warnings = Vec::new();
    for Entry { key, at, node } in tree.entries() {
        let mut wrong = |message: &str| problems.push(Problem::new(key, at.clone(), message));
        match key.as_str() {
            "brokers" | "topics" => {}
            "group_id" => kafka = kafka.with("group_id", node.clone()),
            "client_id" if node.value == Value::Null => {}
            "client_id" => kafka = kafka.with("client_id", node.clone()),
            "butler_repo" => {
                let repository = Node::map(at)
                    .with("butler", node.clone())
                    .with("transfer", transfer(at));
                native = native.with("repositories", Node::map(at).with(REPOSITORY, repository));
            }
            "num_messages" => match whole_number(node) {
                Some(count) => batching = batching.with("max_datasets", number(count, at)),
                None => wrong("must be a whole number of messages"),
            },
            "timeout" => match whole_number(node) {
                Some(seconds) => {
                    batching = batching.with("max_wait_ms", number(seconds.saturating_mul(1000), at))
                }
                None => wrong("must be a whole number of seconds"),
            },
            "batching" => batching.value = node.value.clone(),
            "log" => native = native.with("log", node.clone()),
            other if OURS.contains(&other) => native = native.with(other, node.clone()),
            other => {
                let known = KEYS.into_iter().chain(OURS).chain(["log"]);
                let mut warning = Problem::new(key, at.clone(), "unknown key, ignored as ctrl_ingestd does");
                warning.hint = nearest(other, known).map(|near| format!("did you mean `{near}`?"));
                warnings.push(warning);
            }
        }
    }
    for key in ["brokers", "group_id", "butler_repo", "topics"] {
        if tree.get(key).is_none() {
            problems.push(Problem::new("", root.clone(), format!("`{key}` is missing")).hint(hint_for(key)));
        }
    }
    if let Some(brokers) = tree.get("brokers") {
        kafka = kafka.with("brokers", brokers.clone());
    }
    if let Some(topics) = tree.get("topics") {
        let (names, routes) = routes(topics, &mut problems, &mut warnings);
        kafka = kafka.with("topics", names);
        native = native.with("routes", routes);
    }
    if problems.is_empty() {
        native = native
            .with("source", Node::map(root).with("kafka", kafka))
            .with("batching", batching);
        Ok((native, warnings))
    } else {
        Err(ConfigError { problems })
    }
}

/// What versions before 2.0 had, and what to write in its place.
fn removed_keys(tree: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    for Entry { key, at, node } in tree.entries() {
        let removed = |message: &str, hint: &str| {
            Problem::new(
                key,
                at.clone(),
                format!("{message} was removed in ctrl_ingestd 2.0"),
            )
            .hint(hint)
        };
        match (key.as_str(), &node.value) {
            ("butler", _) => problems.push(removed("this section", "write `butler_repo: <repository>`")),
            ("rses", _) => problems.push(removed(
                "this section",
                "write `topics:` with one entry for each topic, each with `rucio_prefix` and `fs_prefix`",
            )),
            ("brokers", Value::Text(text)) => {
                let hint = format!("write `brokers: [{}]`", text.replace(',', ", "));
                problems.push(removed("text in place of a list", &hint));
            }
            _ => {}
        }
    }
    problems
}

fn hint_for(key: &str) -> &'static str {
    match key {
        "brokers" => "write `brokers: [host:9092]`",
        "group_id" => "write `group_id: <the consumer group>`",
        "butler_repo" => "write `butler_repo: <repository>`",
        _ => "write `topics:` with one entry for each topic, each with `rucio_prefix` and `fs_prefix`",
    }
}

/// That program's transfer modes; our own default is `direct` for all.
fn transfer(at: &Origin) -> Node {
    let direct = Node::text("direct", at);
    let auto = Node::text("auto", at);
    Node::map(at)
        .with("raw_file", direct)
        .with("data_product", auto.clone())
        .with("zip_file", auto)
}

/// The names of the topics, and one route for each.
fn routes(topics: &Node, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) -> (Node, Node) {
    let (mut names, mut routes) = (Vec::new(), Vec::new());
    if topics.entries().is_empty() {
        let message = "must name at least one topic";
        problems.push(Problem::new("topics", topics.origin.clone(), message).hint(hint_for("topics")));
    }
    for Entry { key: topic, at, node } in topics.entries() {
        let path = format!("topics.{topic}");
        let prefix = |key: &str| match node.get(key).map(|n| (&n.value, &n.origin)) {
            None => Ok(None),
            Some((Value::Text(text), origin)) if text.is_empty() => Ok(Some(Node::text("", origin))),
            Some((Value::Text(text), origin)) => {
                let slash = if text.ends_with('/') { "" } else { "/" };
                Ok(Some(Node::text(format!("{text}{slash}"), origin)))
            }
            Some((other, origin)) => {
                let message = format!("must be text, not {}", other.describe());
                Err(Problem::new(format!("{path}.{key}"), origin.clone(), message))
            }
        };
        let unknown = node
            .entries()
            .iter()
            .filter(|e| !["rucio_prefix", "fs_prefix"].contains(&e.key.as_str()));
        for Entry { key, at, .. } in unknown {
            let message = "unknown key, ignored as ctrl_ingestd does";
            let mut warning = Problem::new(format!("{path}.{key}"), at.clone(), message);
            let near = nearest(key, ["rucio_prefix", "fs_prefix"]);
            warning.hint = near.map(|near| format!("did you mean `{near}`?"));
            warnings.push(warning);
        }
        match (prefix("rucio_prefix"), prefix("fs_prefix")) {
            (Ok(Some(from)), Ok(to)) => {
                let to = to.unwrap_or_else(|| Node::text("", at));
                let prefixes = Node::list(vec![Node::map(at).with("from", from).with("to", to)], at);
                let repositories = Node::list(vec![Node::text(REPOSITORY, at)], at);
                names.push(Node::text(topic, at));
                routes.push(
                    Node::map(at)
                        .with("rse_scope", Node::text(topic, at))
                        .with("prefixes", prefixes)
                        .with("repositories", repositories),
                );
            }
            (Ok(None), _) => problems.push(Problem::new(path, at.clone(), "`rucio_prefix` is missing")),
            (from, to) => problems.extend(from.err().into_iter().chain(to.err())),
        }
    }
    (
        Node::list(names, &topics.origin),
        Node::list(routes, &topics.origin),
    )
}

/// A whole number of 0 or more, also in quotes.
fn whole_number(node: &Node) -> Option<i128> {
    match &node.value {
        Value::Int(n) => Some(*n),
        Value::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|n| *n >= 0)
}

fn number(n: i128, at: &Origin) -> Node {
    Node {
        value: Value::Int(n),
        origin: at.clone(),
    }
}
