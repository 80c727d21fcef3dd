//! Scan: a fast reader of the fields that views use, for events of the usual shape.
