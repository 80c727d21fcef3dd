//! Listings: what a Rucio dataset contains, by the newest listing of it.
//!
//! ```text
//!   contents --> members in order, the newest of each dataset --> dataset progress, placement
//! ```
//!
//! In:    listings of contents, in any order, repeated any number of times.
//! Out:   `(dataset, epoch, newest listing)`: a difference that keeps the newest, see [`Newest`].
//! State: none; since the last checkpoint 16 bytes for each member of a listing.
//!
//! Of two listings of one moment the one with the greater members is the newer: the same on every run.

use super::newest::Newest;
use crate::{
    Epoch,
    checkpoint::{Keep, Kind, Merge, kept, sum},
    facts::{Contents, DatasetName, DidKey},
};
use dbb_events::Micros;
use differential_dataflow::VecCollection;

/// When a dataset was listed, and its files, each once and in order.
pub type Listing = Newest<(Micros, Vec<DidKey>)>;

/// The newest listings, in a checkpoint.
pub(crate) static KIND: Kind = Kind {
    name: "listings",
    version: 1,
    merge: Merge::Sum(sum::<Listing>),
};

/// See the module.
pub fn listings<'s>(
    contents: VecCollection<'s, Epoch, Contents, isize>,
    keep: Option<&Keep>,
) -> VecCollection<'s, Epoch, DatasetName, Listing> {
    let listings = contents.explode(|contents| {
        let mut members: Vec<DidKey> = contents.members.into_iter().map(|(did, _)| did).collect();
        members.sort_unstable();
        members.dedup();
        [(contents.dataset, Newest((contents.at, members)))]
    });
    kept(listings, &KIND, keep)
}
