//! The only `unsafe` code of the program, one small function for each need.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes ownership of a file descriptor that the service manager passed to this process; nothing if no such descriptor is
/// open (an environment that was inherited, not passed, names descriptors that are not there).
///
/// Call it once for each number that `sd_listen_fds(3)` or `launch_activate_socket(3)` gave.
pub fn adopt_passed_fd(fd: RawFd) -> Option<OwnedFd> {
    if fd < 0 {
        return None;
    }
    // SAFETY: the borrow ends with this question, which the kernel answers for any number.
    let is_open = rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) }).is_ok();
    if !is_open {
        return None;
    }
    // SAFETY: the service manager passed the descriptor to this process for it to own, and the callers
    // (`runtime::sockets`) take each number once, before anything else opens or closes descriptors.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives memory that is free, but lies between what is still in use, back to the system. The C library keeps it by itself,
/// so that a crowd of clients would be seen in the process's memory long after it has left. Takes about a millisecond for
/// each 100 MiB; does nothing where the allocator is another one.
pub fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            // malloc_trim(3)
            safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use super::*;

    #[test]
    fn only_an_open_descriptor_is_taken() {
        let open = std::fs::File::open("/dev/null").unwrap().into_raw_fd();
        let taken = adopt_passed_fd(open).unwrap();
        drop(taken);
        assert!(adopt_passed_fd(open).is_none());
        assert!(adopt_passed_fd(-1).is_none());
        assert!(adopt_passed_fd(1_000_000).is_none());
    }
}
