//! What is installed with the service manager: the definition, the plan, its execution and its proof.

/// Whose service manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The user's own.
    User,
    /// The machine's.
    System,
}
