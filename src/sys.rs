//! The only `unsafe` code of the program, one small function for each need.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes ownership of a file descriptor that the service manager passed to this process.
///
/// Call it once for each number that `sd_listen_fds(3)` or `launch_activate_socket(3)` gave.
pub fn adopt_passed_fd(fd: RawFd) -> OwnedFd {
    // SAFETY: the service manager passed the descriptor to this process for it to own, and the callers
    // (`runtime::sockets`) take each number once, before anything else opens or closes descriptors.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
