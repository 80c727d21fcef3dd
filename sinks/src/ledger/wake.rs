//! Which waiting rows an arrival wakes.

/// The keys of the rows that become due when `provided` has come: those that wait for exactly this, for any
/// record of its element, or for a dimension record that the failure did not name.
pub(crate) fn woken_by(provided: &str) -> Vec<String> {
    let mut keys = vec![super::words::clip(provided)];
    if let Some(record) = provided.strip_prefix("dimension:") {
        if let Some((element, _)) = record.split_once('/') {
            keys.push(super::words::clip(&format!("dimension:{element}")));
        }
        if !record.is_empty() {
            keys.push("dimension:".into());
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_wakes_those_who_do_not_know_which() {
        assert_eq!(
            woken_by("dimension:exposure/LSSTCam/1"),
            ["dimension:exposure/LSSTCam/1", "dimension:exposure", "dimension:"]
        );
        assert_eq!(
            woken_by("dimension:exposure"),
            ["dimension:exposure", "dimension:"]
        );
        assert_eq!(
            woken_by("file:/a/b_dimensions.yaml"),
            ["file:/a/b_dimensions.yaml"]
        );
    }
}
