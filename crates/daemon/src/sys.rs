//! The only `unsafe` code of the program, one small function for each need.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a descriptor closes when another program is run; nothing if it is not open. What this process was passed does
/// not, or it would not be here; what it opened itself does.
pub fn closes_on_exec(fd: RawFd) -> Option<bool> {
    if fd < 0 {
        return None;
    }
    // SAFETY: the borrow ends with this question, which the kernel answers for any number.
    let flags = rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) }).ok()?;
    Some(flags.contains(rustix::io::FdFlags::CLOEXEC))
}

/// The numbers that have an owner already.
static ADOPTED: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// Takes ownership of a file descriptor that the service manager passed to this process. Each number is given once in the life
/// of the process, and only if it is open and none of the three standard ones.
///
/// The callers ask for the numbers that `sd_listen_fds(3)` gave, after a look at [`closes_on_exec`] for each: what this process
/// opened itself has an owner, and closes then.
pub fn adopt_passed_fd(fd: RawFd) -> Option<OwnedFd> {
    if fd < 3 || closes_on_exec(fd).is_none() {
        return None;
    }
    let mut adopted = ADOPTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: the descriptor is open, was passed to this process for it to own, and nobody was given it before.
    adopted.insert(fd).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The shape of `launch_activate_socket(3)`: for the name of an entry of `Sockets` it allocates an array of descriptors,
/// which the caller frees, and returns 0 or an error number.
pub type ActivateSocket = unsafe extern "C" fn(*const c_char, *mut *mut c_int, *mut usize) -> c_int;

/// The sockets of that name that launchd holds for this job.
///
/// # Errors
/// `ESRCH` when launchd did not start this process, `ENOENT` when its plist has no such socket, `EALREADY` when they were
/// taken before.
#[cfg(target_os = "macos")]
pub fn launchd_sockets(name: &CStr) -> io::Result<Vec<OwnedFd>> {
    unsafe extern "C" {
        fn launch_activate_socket(name: *const c_char, fds: *mut *mut c_int, count: *mut usize) -> c_int;
    }
    // SAFETY: this is the very function whose contract the callee relies on.
    unsafe { activated(launch_activate_socket, name) }
}

/// Calls `activate` for `name` and takes over what it gives.
///
/// # Safety
/// `activate` must keep the contract of `launch_activate_socket(3)`: on success, `fds` is an array of `count` open
/// descriptors that nobody else owns, allocated with `malloc`.
pub unsafe fn activated(activate: ActivateSocket, name: &CStr) -> io::Result<Vec<OwnedFd>> {
    unsafe extern "C" {
        fn free(memory: *mut c_void);
    }
    let (mut fds, mut count) = (std::ptr::null_mut::<c_int>(), 0_usize);
    // SAFETY: `name` ends with NUL, and both places outlive the call.
    let error = unsafe { activate(name.as_ptr(), &raw mut fds, &raw mut count) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    if fds.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the contract says that so many are there, and that they are ours.
    let taken = (0..count).map(|at| unsafe { OwnedFd::from_raw_fd(*fds.add(at)) }).collect();
    // SAFETY: it was allocated with malloc, and nothing refers to it any more.
    unsafe { free(fds.cast()) };
    Ok(taken)
}

/// A value that the kernel knows by this name (`sysctlbyname(3)`), as its bytes.
///
/// # Errors
/// What the system says, for one that it does not have.
#[cfg(target_os = "macos")]
pub fn sysctl(name: &CStr) -> io::Result<Vec<u8>> {
    unsafe extern "C" {
        fn sysctlbyname(
            name: *const c_char,
            old: *mut c_void,
            old_length: *mut usize,
            new: *mut c_void,
            new_length: usize,
        ) -> c_int;
    }
    // What it lists may grow between the two questions.
    for _ in 0..5 {
        let mut length = 0_usize;
        // SAFETY: `name` ends with NUL; without a place for it only the length is told.
        let asked =
            unsafe { sysctlbyname(name.as_ptr(), std::ptr::null_mut(), &raw mut length, std::ptr::null_mut(), 0) };
        if asked != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut bytes = vec![0_u8; length + length / 8];
        length = bytes.len();
        // SAFETY: `bytes` has room for `length`, and the kernel writes no more.
        let told =
            unsafe { sysctlbyname(name.as_ptr(), bytes.as_mut_ptr().cast(), &raw mut length, std::ptr::null_mut(), 0) };
        match told {
            0 => {
                bytes.truncate(length);
                return Ok(bytes);
            }
            _ if io::Error::last_os_error().raw_os_error() == Some(rustix::io::Errno::NOMEM.raw_os_error()) => {}
            _ => return Err(io::Error::last_os_error()),
        }
    }
    Err(io::Error::from(io::ErrorKind::OutOfMemory))
}

/// Whether a copy was split off.
static SPLIT: AtomicBool = AtomicBool::new(false);

/// Splits a copy off this process, once in its life. The copy goes on from here with standard output and standard error that
/// lead nowhere, so that nobody who reads those waits for it. Its id in the original, nothing in the copy.
///
/// The copy has this thread alone, and whatever lock another thread holds is held in it for ever. So there may be one other
/// thread at most, the one that began and waits for this one; where the system tells that there are more, there is no copy.
///
/// # Errors
/// What the system says, that there was a copy before, or that there are other threads; there is no copy then.
pub fn split_off() -> io::Result<Option<c_int>> {
    unsafe extern "C" {
        // fork(2)
        fn fork() -> c_int;
    }
    let nowhere = std::fs::File::options().write(true).open("/dev/null")?;
    if threads().is_some_and(|threads| threads > 2) {
        return Err(io::Error::other("other threads run"));
    }
    if SPLIT.swap(true, Ordering::SeqCst) {
        return Err(io::Error::other("a copy was split off before"));
    }
    // SAFETY: no thread but the one that waits for this one runs, so that no lock is held that the copy will want.
    match unsafe { fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            for number in [1, 2] {
                // SAFETY: the numbers of standard output and error are this process's for good; this owner does not close them.
                let mut fd = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
                let _ = rustix::io::dup2(&nowhere, &mut fd);
            }
            Ok(None)
        }
        copy => Ok(Some(copy)),
    }
}

/// Lets the C library ask the system for every large block of memory by itself, and so give it back the moment it is freed. Left
/// alone it learns from the first large block to keep all that are no larger, up to 32 MiB, and as much again at the end of its
/// heap; large bodies and answers would be seen in the process's memory for ever. Does nothing where the allocator is another one.
pub fn keep_large_blocks_apart() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // mallopt(3): what is at least so large, and how much may stay free at the end of the heap.
        const M_MMAP_THRESHOLD: (c_int, c_int) = (-3, 256 << 10);
        const M_TRIM_THRESHOLD: (c_int, c_int) = (-1, 1 << 20);
        unsafe extern "C" {
            safe fn mallopt(parameter: c_int, value: c_int) -> c_int;
        }
        for (parameter, value) in [M_MMAP_THRESHOLD, M_TRIM_THRESHOLD] {
            mallopt(parameter, value);
        }
    }
}

/// How many threads this process has, where the system tells.
fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
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
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;

    #[test]
    fn only_an_open_descriptor_is_taken() {
        let open = std::fs::File::open("/dev/null").unwrap().into_raw_fd();
        let taken = adopt_passed_fd(open).unwrap();
        assert!(adopt_passed_fd(open).is_none(), "it has an owner");
        drop(taken);
        assert!((0..3).all(|standard| adopt_passed_fd(standard).is_none()));
        assert!(adopt_passed_fd(-1).is_none());
        assert!(adopt_passed_fd(1_000_000).is_none());
    }

    unsafe extern "C" {
        fn malloc(size: usize) -> *mut c_void;
    }

    /// As launchd's, for a plist with a socket entry `http` of two families.
    unsafe extern "C" fn fake(name: *const c_char, fds: *mut *mut c_int, count: *mut usize) -> c_int {
        use rustix::io::Errno;
        // SAFETY: the caller passes a C string and two places.
        let (name, fds, count) = unsafe { (CStr::from_ptr(name), &mut *fds, &mut *count) };
        match name.to_bytes() {
            b"http" => {
                let open = [(); 2].map(|()| std::fs::File::open("/dev/null").unwrap().into_raw_fd());
                // SAFETY: room for both.
                unsafe {
                    *fds = malloc(2 * size_of::<c_int>()).cast();
                    std::ptr::copy_nonoverlapping(open.as_ptr(), *fds, 2);
                }
                *count = 2;
                0
            }
            b"stranger" => Errno::SRCH.raw_os_error(),
            b"twice" => Errno::ALREADY.raw_os_error(),
            _ => Errno::NOENT.raw_os_error(),
        }
    }

    #[test]
    fn what_launchd_gives_is_ours_and_its_errors_are_told() {
        // SAFETY: `fake` keeps the contract.
        let ask = |name: &CStr| unsafe { activated(fake, name) };
        let taken = ask(c"http").unwrap();
        assert!(taken.len() == 2 && taken[0].as_raw_fd() != taken[1].as_raw_fd());
        let numbers: Vec<RawFd> = taken.iter().map(AsRawFd::as_raw_fd).collect();
        drop(taken);
        assert!(numbers.into_iter().all(|fd| adopt_passed_fd(fd).is_none()), "closed with their owner");
        for (name, errno) in [
            (c"stranger", rustix::io::Errno::SRCH),
            (c"twice", rustix::io::Errno::ALREADY),
            (c"x", rustix::io::Errno::NOENT),
        ] {
            assert_eq!(ask(name).unwrap_err().raw_os_error(), Some(errno.raw_os_error()));
        }
    }
}
