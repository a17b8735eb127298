//! Clocks, and what the kernel knows about a process.

use std::fs;

/// Nanoseconds of the monotonic clock. Sender and receiver are this process, so one clock measures both ends.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A process at one moment; all zero when it cannot be read.
#[derive(Debug, Default, Clone, Copy)]
pub struct Usage {
    /// Seconds of processor time since its start, user and system.
    pub cpu: f64,
    /// Resident memory in KiB.
    pub rss: u64,
    /// What of it no file backs, in KiB.
    pub anonymous: u64,
    /// Its share of the memory that it has in common with others, in KiB; 0 where that may not be read.
    pub pss: u64,
}

/// What `/proc` tells about that process.
pub fn usage(pid: i32) -> Usage {
    let read = || -> Option<Usage> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        // SAFETY: sysconf has no preconditions.
        let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
        let cpu = (fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / ticks;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let pss = field(&rollup, "Pss:").unwrap_or(0);
        Some(Usage { cpu, rss: field(&status, "VmRSS:")?, anonymous: field(&status, "RssAnon:")?, pss })
    };
    read().unwrap_or_default()
}

/// The number in the line that begins with `name`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

/// Seconds of processor time that this process has used.
pub fn own_cpu() -> f64 {
    // SAFETY: all-zero is a valid rusage, and the pointer is to a live one.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// As many descriptors as this process may have.
pub fn raise_descriptor_limit() {
    // SAFETY: the pointers are to a live rlimit.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

/// Keeps the calling thread, and what it starts, on one processor. Allocates nothing, so it may stand between fork and exec.
pub fn pin(cpu: usize) {
    // SAFETY: all-zero is a valid set, and the pointer is to a live one.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}
