//! Hermes: which services Rucio writes rows for, as far as its version tells. The database does not.

/// Names that Hermes has in every version from 38.5.5 on.
const ALWAYS: [&str; 4] = ["INFLUX", "ELASTIC", "EMAIL", "ACTIVEMQ"];
/// One that it has in 41.5.1, and had not in 38.5.5.
const LATER: &str = "SYSLOG";
/// The first version that is known to have it.
const LATER_FROM: [u64; 3] = [41, 5, 1];

/// What is doubtful about reading the rows of `service` from a Rucio of this version, in one sentence; rows that were
/// `seen` prove that it writes some.
pub fn doubt(service: &str, version: Option<&str>, seen: bool) -> Option<String> {
    let name = service.to_uppercase();
    let known = ALWAYS.contains(&&*name) || name == LATER;
    if known && service == service.to_lowercase() {
        return Some(format!(
            "rows of service `{service}` are Hermes's own in this spelling: it sends and removes them, too; choose another \
             spelling in services_list"
        ));
    }
    if seen {
        return None;
    }
    let unseen = format!(
        "no row of service `{service}` was ever seen: whether Rucio writes any, only a row can prove"
    );
    let is_late = name == LATER;
    let why = match version {
        _ if !known => format!(
            "its Hermes knows {} and, from 41.5.1 on, {LATER}, and drops rows of other names unless it is patched",
            ALWAYS.join(", ")
        ),
        Some(version) if is_late && numbers(version) < LATER_FROM => format!(
            "Rucio {version} need not know {LATER}, which is there from 41.5.1 on, and drops rows of names that it does \
             not know: use one of {} in a spelling of your own",
            ALWAYS.join(", ")
        ),
        None if is_late => format!(
            "{LATER} is known to a Hermes from 41.5.1 on, an older one drops its rows; which version this is, \
             hub.lookup.rucio would tell"
        ),
        _ => return Some(unseen),
    };
    Some(format!("{unseen}; {why}"))
}

/// The numbers of a version; what is none is 0.
fn numbers(version: &str) -> [u64; 3] {
    let mut parts = version.split('.').map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    });
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_rucio_drops_is_doubted_until_a_row_was_seen() {
        for (service, version, word) in [
            ("Syslog", Some("38.5.5"), "Rucio 38.5.5 need not know SYSLOG"),
            ("Syslog", None, "from 41.5.1 on"),
            ("dbb", Some("41.5.1"), "unless it is patched"),
            ("Influx", Some("38.5.5"), "only a row can prove"),
        ] {
            let told = doubt(service, version, false).unwrap();
            assert!(told.contains(word), "{told}");
            assert_eq!(doubt(service, version, true), None);
        }
        let told = doubt("Syslog", Some("41.5.1"), false).unwrap();
        assert!(!told.contains("need not"), "{told}");
        assert!(!doubt("Syslog", Some("42.0"), false).unwrap().contains("need not"));
    }

    #[test]
    fn a_spelling_that_hermes_serves_is_doubted_even_with_rows() {
        for service in ["activemq", "syslog"] {
            assert!(
                doubt(service, Some("41.5.1"), true)
                    .unwrap()
                    .contains("Hermes's own")
            );
        }
    }
}
