//! Every parser against its committed seeds and against generated input; `scripts/fuzz.sh` goes on from there.

mod properties;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use properties::{TARGETS, is_understood, run};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    entries.map(|e| e.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(fuzz().join("seeds").join(target)).unwrap();
    entries.map(|e| std::fs::read(e.unwrap().path()).unwrap()).collect()
}

#[test]
fn every_parser_has_a_fuzz_target_and_seeds() {
    let all: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&fuzz().join("fuzz_targets")), all);
    assert_eq!(names(&fuzz().join("seeds")), all);
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in &all {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml lacks {name}");
    }
}

#[test]
fn the_seeds_hold_what_is_promised() {
    for (name, check) in TARGETS {
        let seeds = seeds(name);
        assert!(seeds.iter().any(|s| is_understood(name, s)), "{name}: no seed is understood");
        seeds.iter().for_each(|seed| check(seed));
    }
}

/// Seeds with a few bytes changed, cut or doubled: near enough to what is valid to get past the first check.
fn damaged(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..5, any::<u8>());
    (prop::sample::select(seeds), prop::collection::vec(edit, 0..4)).prop_map(|(mut bytes, edits)| {
        for (from, to, what, byte) in edits {
            if bytes.is_empty() {
                break;
            }
            let (a, b) = (from.index(bytes.len()), to.index(bytes.len()));
            let (a, b) = (a.min(b), a.max(b));
            match what {
                0 => bytes[a] = byte,
                1 => drop(bytes.drain(a..=b)),
                2 => bytes.insert(a, byte),
                3 => bytes.extend_from_within(a..=b),
                _ => bytes.swap(a, b),
            }
        }
        bytes
    })
}

fn hammer(name: &str, input: impl Strategy<Value = Vec<u8>>) {
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&input, |bytes| {
            run(name, &bytes);
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{name}: {e}"));
}

#[test]
fn damaged_seeds_hold_what_is_promised() {
    for (name, _) in TARGETS {
        hammer(name, damaged(seeds(name)));
    }
}

#[test]
fn any_text_holds_what_is_promised() {
    for (name, _) in TARGETS {
        hammer(name, any::<String>().prop_map(String::into_bytes));
        hammer(name, prop::collection::vec(any::<u8>(), 0..64));
    }
}
