//! How a cluster ends when one of its processes goes.
