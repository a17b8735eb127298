//! Gives the build an identity: a hash of its sources, so that two builds of one version differ when
//! their code does, and the same sources give the same build everywhere.

use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let mut files = vec![PathBuf::from("Cargo.toml"), PathBuf::from("Cargo.lock")];
    files.iter().for_each(|file| println!("cargo:rerun-if-changed={}", file.display()));
    let dirs = ["src", "systemd", "launchd", "dashboard"].map(PathBuf::from);
    for dir in dirs.into_iter().chain(crates()) {
        println!("cargo:rerun-if-changed={}", dir.display());
        collect(&dir, &mut files);
    }
    files.sort();
    // FNV-1a: an identity, not a signature.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for file in files {
        let Ok(bytes) = fs::read(&file) else { continue };
        for byte in file.to_string_lossy().bytes().chain(bytes) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    println!("cargo:rustc-env=MPM_MONITOR_BUILD_ID={hash:016x}");
}

/// The libraries that the program is made of; what only tests use is none of them.
fn crates() -> impl Iterator<Item = PathBuf> {
    let all = fs::read_dir("crates").into_iter().flatten().flatten();
    all.map(|entry| entry.path()).filter(|dir| !dir.ends_with("testkit"))
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
