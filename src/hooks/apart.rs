//! Work in a copy of this process. A thread that a disk keeps in the kernel keeps its process from ending, and with it whoever
//! waits for that end; a copy can be left behind.

use std::io::{Read, Write};

use rustix::process::{Pid, WaitOptions, waitpid};

use daemon::sys;

/// Does `work` in a copy of this process, and gives back what it says. Where no copy can be made it is done here.
///
/// No other thread may hold a lock meanwhile.
pub fn run(work: impl FnOnce() -> String) -> String {
    let Ok((mut reader, mut writer)) = std::io::pipe() else { return work() };
    let copy = match sys::split_off() {
        Ok(None) => {
            if let Ok(to) = writer.try_clone() {
                std::panic::set_hook(Box::new(move |panic| drop(write!(&to, "{panic}"))));
            }
            let _ = writer.write_all(work().as_bytes());
            std::process::exit(0)
        }
        Ok(Some(copy)) => copy,
        Err(_) => return work(),
    };
    drop(writer);
    let mut said = String::new();
    let _ = reader.read_to_string(&mut said);
    // Not every container has a first process that looks after those that are left behind.
    let _ = Pid::from_raw(copy).map(|copy| waitpid(Some(copy), WaitOptions::empty()));
    said
}
