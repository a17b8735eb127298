//! The state of each component, as `/health`, `STATUS=` and the logs tell it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::Serialize;

/// How one component is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not yet up.
    Starting,
    /// Doing its work.
    Ok,
    /// Doing part of its work; the detail says what is missing.
    Degraded,
    /// On its way down.
    Stopping,
}

/// One component's state and, where it is not simply well, why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Component {
    /// How it is.
    pub state: State,
    /// Why, in a few words; absent when there is nothing to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The states of all components by name; cheap to clone, shared by all.
#[derive(Debug, Clone, Default)]
pub struct Components(Arc<Mutex<BTreeMap<&'static str, Component>>>);

impl Components {
    /// Without any component yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a component's state without a detail.
    pub fn set(&self, name: &'static str, state: State) {
        self.lock().insert(name, Component { state, detail: None });
    }

    /// Sets a component's state and why.
    pub fn set_because(&self, name: &'static str, state: State, detail: impl Into<String>) {
        self.lock().insert(name, Component { state, detail: Some(detail.into()) });
    }

    /// A copy of all states, by name.
    pub fn snapshot(&self) -> BTreeMap<&'static str, Component> {
        self.lock().clone()
    }

    /// The components that are degraded, as `name: detail`.
    pub fn degraded(&self) -> Vec<String> {
        self.lock()
            .iter()
            .filter(|(_, c)| c.state == State::Degraded)
            .map(|(n, c)| format!("{n}: {}", c.detail.as_deref().unwrap_or("degraded")))
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Component>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
