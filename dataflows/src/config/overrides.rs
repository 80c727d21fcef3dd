//! Overrides of single keys: environment variables `DBB_SECTION__KEY=value` and options `--set a.b=c`.
//!
//! ```text
//!   tree of the file --> environment --> --set --> tree; each changed value knows what changed it
//! ```
//!
//! Values are YAML: `8`, `true`, `[a, b]`, `{from: x, to: y}`; what is no YAML is an error that names the variable.

use super::{
    node::{Entry, Node, Value},
    problem::{ConfigError, Origin, Problem, nearest},
};

/// Applies the variables of `environment` that start with `DBB_` to `tree`, in the order of their names.
///
/// `DBB_LEDGER__URL` sets `ledger.url`: case does not matter, two underscores separate levels, a number is the
/// place in a list. A variable of one level that is no key is only warned about: an orchestrator sets
/// `DBB_PORT` and the like for a service called dbb.
pub fn apply_environment(
    tree: &mut Node,
    environment: impl IntoIterator<Item = (String, String)>,
    top_level: &[&str],
) -> Result<Vec<Problem>, ConfigError> {
    let mut variables: Vec<_> = environment
        .into_iter()
        .filter(|(name, _)| name.starts_with("DBB_"))
        .collect();
    variables.sort();
    let (mut warnings, mut problems) = (Vec::new(), Vec::new());
    for (name, text) in variables {
        let steps: Vec<String> = name["DBB_".len()..].split("__").map(str::to_lowercase).collect();
        let origin = Origin::Environment(name.as_str().into());
        if steps.len() == 1 && !top_level.contains(&steps[0].as_str()) {
            let mut warning = Problem::new(
                "",
                origin,
                format!("ignored: no section is called `{}`", steps[0]),
            );
            warning.hint =
                nearest(&steps[0], top_level.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            warnings.push(warning);
            continue;
        }
        match value(&text, &origin) {
            Ok(node) => problems.extend(set(tree, &steps, node, &origin).err()),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(warnings)
    } else {
        Err(ConfigError { problems })
    }
}

/// Applies options `--set path=value` to `tree`, in the order given.
pub fn apply_sets(tree: &mut Node, sets: &[String]) -> Result<(), ConfigError> {
    let mut problems = Vec::new();
    for text in sets {
        // Only the path is named: the value may be a secret.
        let origin = Origin::Set(
            text.split_once('=')
                .map_or(text.as_str(), |(path, _)| path.trim())
                .into(),
        );
        let Some((path, text)) = text.split_once('=') else {
            let hint = "write --set section.key=value";
            problems.push(Problem::new("", origin, "there is no `=` in it").hint(hint));
            continue;
        };
        let steps: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
        match value(text, &origin) {
            Ok(node) => problems.extend(set(tree, &steps, node, &origin).err()),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ConfigError { problems })
    }
}

/// The YAML value written in `text`, all of it at `origin`.
fn value(text: &str, origin: &Origin) -> Result<Node, Problem> {
    if text.trim().is_empty() {
        return Ok(Node::text("", origin));
    }
    Node::parse(text, |_, _| origin.clone()).map_err(|error| {
        let message = error
            .problems
            .into_iter()
            .next()
            .map(|p| p.message)
            .unwrap_or_default();
        Problem::new("", origin.clone(), message).hint("put text with special characters in quotes")
    })
}

/// Puts `node` at `steps`, making the mappings on the way.
fn set(tree: &mut Node, steps: &[String], node: Node, origin: &Origin) -> Result<(), Problem> {
    let mut at = tree;
    let mut path = String::new();
    for (level, step) in steps.iter().enumerate() {
        if step.is_empty() {
            return Err(Problem::new(path, origin.clone(), "a level has no name"));
        }
        if matches!(at.value, Value::Null) {
            *at = Node::map(origin);
        }
        let last = level + 1 == steps.len();
        match &mut at.value {
            Value::Map(entries) => {
                if !path.is_empty() {
                    path.push('.');
                }
                // The name as written, else the same in other case: RSEs are in capitals, variables too.
                let found = entries
                    .iter()
                    .position(|e| e.key == *step)
                    .or_else(|| entries.iter().position(|e| e.key.eq_ignore_ascii_case(step)));
                let index = found.unwrap_or_else(|| {
                    entries.push(Entry {
                        key: step.clone(),
                        at: origin.clone(),
                        node: Node::map(origin),
                    });
                    entries.len() - 1
                });
                let entry = &mut entries[index];
                path.push_str(&entry.key);
                if last {
                    entry.at = origin.clone();
                }
                at = &mut entry.node;
            }
            Value::List(nodes) => {
                let count = nodes.len();
                let Some(next) = step.parse::<usize>().ok().and_then(|i| nodes.get_mut(i)) else {
                    let message = format!("`{step}` is no place in a list of {count}, counted from 0");
                    return Err(Problem::new(path, origin.clone(), message));
                };
                path = format!("{path}[{step}]");
                at = next;
            }
            other => {
                let message = format!("`{step}` can't be set in {}", other.describe());
                return Err(Problem::new(path, origin.clone(), message));
            }
        }
    }
    *at = node;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::node::in_file;

    const FILE: &str = "ledger: {url: sqlite:a}\nrses:\n  IN2P3_RAW_DISK: {prefixes: [{from: a, to: b}]}\n";

    fn tree() -> Node {
        Node::parse(FILE, in_file("s.yaml")).unwrap()
    }

    fn environment(tree: &mut Node, name: &str, value: &str) -> Result<Vec<Problem>, ConfigError> {
        apply_environment(
            tree,
            [(name.to_owned(), value.to_owned())],
            &["ledger", "rses", "workers"],
        )
    }

    #[test]
    fn a_variable_sets_a_key_and_is_named_as_its_origin() {
        let mut tree = tree();
        environment(&mut tree, "DBB_LEDGER__URL", "postgres://h/d").unwrap();
        assert_eq!(
            tree.get("ledger").unwrap().get("url").unwrap().value,
            Value::Text("postgres://h/d".into())
        );
        assert_eq!(
            tree.origin_at("ledger.url").to_string(),
            "environment variable DBB_LEDGER__URL"
        );
    }

    #[test]
    fn a_variable_reaches_into_lists_and_names_in_capitals() {
        let mut tree = tree();
        environment(&mut tree, "DBB_RSES__IN2P3_RAW_DISK__PREFIXES__0__TO", "/sps").unwrap();
        assert_eq!(
            tree.origin_at("rses.IN2P3_RAW_DISK.prefixes[0].to").to_string(),
            "environment variable DBB_RSES__IN2P3_RAW_DISK__PREFIXES__0__TO"
        );
    }

    #[test]
    fn a_place_that_a_list_does_not_have_is_an_error_that_names_the_variable() {
        let error =
            environment(&mut tree(), "DBB_RSES__IN2P3_RAW_DISK__PREFIXES__3__TO", "/sps").unwrap_err();
        assert_eq!(
            error.to_string(),
            "environment variable DBB_RSES__IN2P3_RAW_DISK__PREFIXES__3__TO: \
             `rses.IN2P3_RAW_DISK.prefixes`: `3` is no place in a list of 1, counted from 0"
        );
    }

    #[test]
    fn a_variable_that_an_orchestrator_sets_is_only_warned_about() {
        let mut tree = tree();
        let warnings = environment(&mut tree, "DBB_PORT", "tcp://10.0.0.1:9327").unwrap();
        assert_eq!(
            warnings[0].to_string(),
            "environment variable DBB_PORT: ignored: no section is called `port`"
        );
        let warnings = environment(&mut tree, "DBB_WORKRES", "2").unwrap();
        assert_eq!(warnings[0].hint.as_deref(), Some("did you mean `workers`?"));
    }

    #[test]
    fn values_are_yaml() {
        let mut tree = tree();
        apply_sets(&mut tree, &["a.b=[1, x]".into(), "workers=3".into(), "e=".into()]).unwrap();
        assert_eq!(tree.get("workers").unwrap().value, Value::Int(3));
        assert!(matches!(&tree.get("a").unwrap().get("b").unwrap().value, Value::List(l) if l.len() == 2));
        assert_eq!(tree.get("e").unwrap().value, Value::Text(String::new()));
    }

    #[test]
    fn what_cannot_be_set_is_named() {
        let error = apply_sets(
            &mut tree(),
            &["ledger.url.x=1".into(), "nonsense".into(), "a=[".into()],
        );
        let error = error.unwrap_err().to_string();
        let lines: Vec<_> = error.lines().collect();
        assert_eq!(
            lines[0],
            "--set ledger.url.x: `ledger.url`: `x` can't be set in the text \"sqlite:a\""
        );
        assert_eq!(lines[1], "--set nonsense: there is no `=` in it");
        assert!(lines[2].starts_with("--set a: not valid YAML: "), "{error}");
    }
}
