//! Which program a process is, for messages, `/health` and the lock file.

/// A program by its name and build. The library crates take it as a parameter: only the program itself knows its build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// The name of the executable.
    pub name: &'static str,
    /// The version, `MAJOR.MINOR.PATCH`.
    pub version: &'static str,
    /// The build, a short hash of the sources.
    pub build: &'static str,
    /// The value of `service` in `/health`, by which clients know it.
    pub service: &'static str,
}

impl Program {
    /// The value of `User-Agent` in its requests.
    pub fn agent(&self) -> String {
        format!("{}/{}", self.name, self.version)
    }
}

#[cfg(test)]
impl Program {
    /// A program for unit tests.
    pub(crate) const TEST: Self = Self { name: "tested", version: "1.2.3", build: "0", service: "tested-service" };
}
