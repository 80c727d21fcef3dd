//! Glimpse: the fields of an event that views use, borrowed.
