//! What this process takes of the machine.

/// How much of what the process uses; absent where the system does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory, bytes.
    pub resident: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open file descriptors.
    pub descriptors: Option<u64>,
}

impl Usage {
    /// As of now.
    pub fn now() -> Self {
        let status = status();
        Self {
            resident: field(&status, "VmRSS").map(|kib| kib * 1024),
            threads: field(&status, "Threads"),
            descriptors: descriptors(),
        }
    }
}

/// The kernel's own words; proc(5) describes them.
#[cfg(target_os = "linux")]
fn status() -> String {
    std::fs::read_to_string("/proc/self/status").unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
fn status() -> String {
    String::new()
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `/dev/fd` lists them on Linux and macOS alike; the one that the list itself takes is not counted.
fn descriptors() -> Option<u64> {
    let count = std::fs::read_dir("/dev/fd").ok()?.count() as u64;
    Some(count.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let status = "Name:\tmpm-monitor\nVmRSS:\t    6144 kB\nThreads:\t4\n";
        assert_eq!(
            (field(status, "VmRSS"), field(status, "Threads"), field(status, "Vm")),
            (Some(6144), Some(4), None)
        );
    }

    #[test]
    fn an_open_file_counts() {
        let before = Usage::now().descriptors.unwrap();
        let files: Vec<_> = (0..100).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        // Other tests open and close files of the same process meanwhile, but not as many.
        assert!(Usage::now().descriptors.unwrap() >= before + 50, "{} more", files.len());
        #[cfg(target_os = "linux")]
        assert!(Usage::now().resident > Some(1 << 20) && Usage::now().threads >= Some(1));
    }
}
