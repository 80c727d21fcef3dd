//! Expected: what placement policies say of a file that has landed. They report; nothing is hidden.

use crate::views::placement::Policy;
use dbb_events::Outgoing;

/// The policy by which this file should not be where it has landed, if there is one.
///
/// Of the Rucio datasets that it is in, the event names at most one: that of the rule it was copied for. A policy that
/// leaves out the files of some datasets says nothing of an event that names none.
pub fn unexpected_by<'p>(landed: &Outgoing, policies: &'p [Policy]) -> Option<&'p Policy> {
    let rse = landed.rse.as_str();
    let dataset = landed.dataset.as_deref();
    policies.iter().find(|policy| {
        let is_in = |patterns: &[crate::views::placement::Pattern]| {
            dataset.is_some_and(|dataset| patterns.iter().any(|pattern| pattern.matches(dataset)))
        };
        let is_meant = policy.is_about(&landed.did.scope, &landed.did.name)
            && (policy.in_datasets.is_empty() || is_in(&policy.in_datasets))
            && (policy.not_in_datasets.is_empty() || dataset.is_some() && !is_in(&policy.not_in_datasets));
        is_meant
            && !policy.must.iter().any(|must| must == rse)
            && policy.must_not.iter().any(|pattern| pattern.matches(rse))
    })
}
