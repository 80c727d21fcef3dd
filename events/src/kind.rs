//! What a Butler is asked to do with a file: the `rubin_butler` label.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The value of `rubin_butler`, set on the file's DID by `rucio-register`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Dimension records to import: a Butler export file in YAML. Ordered first: others need it.
    DimFile,
    /// A zip of datasets with its own index.
    ZipFile,
    /// A raw exposure file, described by its sidecar.
    RawFile,
    /// Any other single dataset, described by its sidecar.
    DataProduct,
}

impl Kind {
    /// All kinds, in the order in which one batch is delivered.
    pub const ALL: [Kind; 4] = [Kind::DimFile, Kind::ZipFile, Kind::RawFile, Kind::DataProduct];

    /// The word in the event.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::DimFile => "dim_file",
            Kind::ZipFile => "zip_file",
            Kind::RawFile => "raw_file",
            Kind::DataProduct => "data_product",
        }
    }

    /// The kind called `word`; `None` if there is no such kind.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// True when the event must carry a sidecar.
    pub fn needs_sidecar(self) -> bool {
        matches!(self, Kind::RawFile | Kind::DataProduct)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
