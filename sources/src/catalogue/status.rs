//! How the catalogue is doing, for `/readyz`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A question that takes longer is one that is not answered.
const SILENT: Duration = Duration::from_secs(8);

/// Readable from any thread.
#[derive(Debug, Clone)]
pub struct CatalogueStatus(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    heard: Instant,
    trouble: Option<String>,
    ended: bool,
}

impl CatalogueStatus {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            heard: Instant::now(),
            trouble: None,
            ended: false,
        })))
    }

    /// What is wrong with it, in one sentence.
    pub fn trouble(&self) -> Option<String> {
        self.with(|state| match &state.trouble {
            Some(trouble) => Some(trouble.clone()),
            None if !state.ended && state.heard.elapsed() >= SILENT => Some(format!(
                "the catalogue has not answered for {} s",
                state.heard.elapsed().as_secs()
            )),
            None => None,
        })
    }

    /// It has answered.
    pub(super) fn heard(&self) {
        self.with(|state| {
            state.heard = Instant::now();
            state.trouble = None;
        });
    }

    /// It will be asked again later.
    pub(super) fn failed(&self, trouble: String) {
        self.with(|state| state.trouble = Some(trouble));
    }

    /// Nothing more is asked.
    pub(super) fn ended(&self) {
        self.with(|state| state.ended = true);
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
