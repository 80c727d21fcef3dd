//! Distinct: facts that are counted, each once, however often its event came.
