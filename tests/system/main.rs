//! The service on a real systemd, of the system and of a user: each test boots a throw-away machine of its own (see
//! `tests/systemd-box.md`) and prints what it measured as `FIGURE name value unit`.
#![cfg(target_os = "linux")]

/// Makes one test for the system's manager and one for a user's out of each function.
macro_rules! for_both_scopes {
    ($($name:ident),+ $(,)?) => {
        mod system_manager {
            $(#[test] fn $name() { super::$name(testkit::machine::Scope::System) })+
        }
        mod user_manager {
            $(#[test] fn $name() { super::$name(testkit::machine::Scope::User) })+
        }
    };
}

/// The machine of a test, or the end of the test where none can be had.
macro_rules! boot {
    ($scope:expr) => {
        match testkit::machine::Machine::boot($scope) {
            Some(machine) => machine,
            None => return,
        }
    };
}

mod activation;
mod broken_off;
mod compat;
mod credential;
mod doctor;
mod faults;
mod json;
mod many;
mod migrate;
mod packages;
mod place;
mod sabotages;
mod scopes;
mod snapshots;
mod story;
mod tmux;
mod traces;
mod trust;
mod units;
mod upgrade;
mod verbs;
