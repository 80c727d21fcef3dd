//! One row of the change journal of Rucio's table `replicas`.
