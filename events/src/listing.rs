//! One row of a listing of replicas, or of the contents of a Rucio dataset.
