//! Words that look like a key: by how well-known services begin theirs, or because they are long and random.

use std::ops::Range;

use super::names::parts;
use super::text::{line_start, skip};

/// How keys of well-known services begin.
const PREFIXES: [&str; 78] = [
    "1//0",
    "AGE-SECRET-KEY-",
    "AIza",
    "AKIA",
    "ASIA",
    "ATATT3",
    "ATBB",
    "ATCTT3",
    "CFPAT-",
    "EAACEdEose0cBA",
    "FLWSECK",
    "GOCSPX-",
    "LTAI",
    "NRAK-",
    "PMAK-",
    "PRIVATE-TOKEN",
    "SG.",
    "ABIA",
    "ACCA",
    "AccountKey=",
    "apify_api_",
    "atlasv1.",
    "b2_",
    "ccipat_",
    "dapi",
    "dckr_pat_",
    "dckr_oat_",
    "doo_v1_",
    "dop_v1_",
    "dor_v1_",
    "dp.",
    "duffel_",
    "eyJ",
    "figd_",
    "fio-u-",
    "fo1_",
    "gh",
    "ghp_",
    "github_pat_",
    "glagent-",
    "glcbt-",
    "gldt-",
    "glffct-",
    "glft-",
    "glimt-",
    "gloas-",
    "glpat-",
    "glptt-",
    "glrt-",
    "glsoat-",
    "glsa_",
    "gsk_",
    "hf_",
    "hvb.",
    "hvr.",
    "hvs.",
    "lin_api_",
    "live_",
    "npm_",
    "nvapi-",
    "ops_",
    "phc_",
    "pplx-",
    "pscale_",
    "pul-",
    "pypi-",
    "rdme_",
    "rk_",
    "rubygems_",
    "sk-",
    "sk_",
    "sntrys_",
    "sntryu_",
    "tskey-",
    "whsec_",
    "xai-",
    "xapp-",
    "xox",
];
/// What a word before a hexadecimal number says of it: that it names something.
const IDS: [&str; 44] = [
    "agent",
    "boot",
    "build",
    "cgroup",
    "checksum",
    "client",
    "commit",
    "container",
    "core",
    "cursor",
    "digest",
    "etag",
    "event",
    "git",
    "hash",
    "head",
    "id",
    "ids",
    "image",
    "instance",
    "invocation",
    "job",
    "layer",
    "machine",
    "md5",
    "msg",
    "object",
    "parent",
    "process",
    "program",
    "ref",
    "request",
    "rev",
    "revision",
    "run",
    "session",
    "sha1",
    "sha256",
    "sha512",
    "span",
    "trace",
    "tree",
    "uuid",
    "version",
];
/// A key has at least this many characters.
const SHORTEST: usize = 16;
/// A hexadecimal number that nothing names is a key from this length on.
const SHORTEST_HEX: usize = 24;

/// Adds to `found` where words in the shape of keys stand in the text.
pub fn find(text: &str, found: &mut Vec<Range<usize>>) {
    let is_of_key = |c: char| c.is_ascii_alphanumeric() || "_-.+/=~%".contains(c);
    let mut at = 0;
    while let Some(start) = text[at..].find(is_of_key).map(|n| at + n) {
        // The `n` of a written line break is not of the word.
        let start = start + usize::from(text[..start].ends_with('\\') && text[start..].starts_with(['n', 't', 'r']));
        at = skip(text, start, is_of_key);
        let run = &text[start..at];
        if run.len() < SHORTEST {
            continue;
        }
        if let Some(n) = key_of_service(run) {
            // What is before it, with `.` between, is of the key.
            let is_whole = run[..n].ends_with('.') && !run.contains('/');
            found.push(if is_whole { start } else { start + n }..at);
            continue;
        }
        let is_named = is_named(&text[line_start(text, start)..start]);
        found.extend(random_parts(run, is_named).into_iter().map(|r| start + r.start..start + r.end));
    }
}

/// Where in a run a key begins that tells its service.
fn key_of_service(run: &str) -> Option<usize> {
    let starts = std::iter::once(0).chain(run.match_indices(|c: char| !c.is_ascii_alphanumeric()).map(|(n, _)| n + 1));
    starts.into_iter().find(|&n| {
        let word = &run[n..];
        PREFIXES.iter().filter(|p| word.starts_with(**p)).any(|prefix| {
            let tail = &word[prefix.len()..];
            match *prefix {
                "gh" => tail.as_bytes().get(1) == Some(&b'_') && tail.len() >= 16,
                "xox" => tail.len() >= 12 && tail[..3].contains(['-', '.']),
                "AKIA" | "ASIA" | "ABIA" | "ACCA" => {
                    tail.len() >= 12 && tail.bytes().take(12).all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
                }
                "eyJ" => tail.len() >= 16,
                _ => {
                    tail.len() >= 12
                        && tail[..tail.len().min(256)].split(['_', '-', '.']).any(|p| !p.is_empty() && !is_word(p))
                }
            }
        })
    })
}

/// Whether what stands before a word on its line says that it is the name of something.
fn is_named(before: &str) -> bool {
    let before = &before[before.char_indices().rev().nth(40).map_or(0, |(n, _)| n)..];
    parts(before).iter().rev().take(2).any(|p| IDS.contains(&p.as_str()))
}

/// The parts of a run that are random.
fn random_parts(run: &str, is_named: bool) -> Vec<Range<usize>> {
    let whole = 0..run.len();
    let masked = without_uuids(run);
    let is_path = is_path(run);
    let tail = masked.trim_end_matches('=');
    // Base64 may hold `/` and `+`.
    let segments: Vec<&str> = tail.split('/').collect();
    let is_plain = segments.len() >= 10 || segments.iter().any(|s| s.len() >= 5 && is_word(s));
    if !is_path && !is_plain && !masked.contains('.') && is_random(tail, 20) && !is_hex(tail) {
        return vec![whole];
    }
    let mut found = Vec::new();
    let mut at = 0;
    for piece in masked.split(['/', '.', '=', '%', '~']) {
        let is_key = if is_hex(piece) {
            piece.len() >= SHORTEST_HEX && !is_named && !is_path
        } else if is_path {
            mixture(piece).classes == 3 && is_random(piece, 20)
        } else {
            is_random(piece, SHORTEST)
        };
        if is_key {
            found.push(at..at + piece.len());
        }
        at += piece.len() + 1;
    }
    // A token of several parts is one: none of its parts is for reading.
    let random: usize = found.iter().map(|r: &Range<usize>| r.len()).sum();
    if !is_path && !run.contains('/') && random * 2 > run.len() { vec![whole] } else { found }
}

/// Whether it is written as words are: small letters, perhaps after one capital, or capitals, and `_` and `-` between.
fn is_word(text: &str) -> bool {
    let mut words = text.split(['_', '-']).filter(|w| !w.is_empty());
    words.all(|w| {
        let rest = &w[w.chars().next().map_or(0, char::len_utf8)..];
        w.bytes().all(|b| b.is_ascii_uppercase())
            || (w.bytes().all(|b| b.is_ascii_alphabetic()) && rest.bytes().all(|b| b.is_ascii_lowercase()))
    })
}

/// Whether a run is the path of a file.
fn is_path(run: &str) -> bool {
    (run.starts_with('/') && !run.starts_with("//") && run[1..].contains('/'))
        || run.starts_with("~/")
        || run.starts_with("./")
}

/// With `.` for each character of a UUID, which is a name and no key.
fn without_uuids(run: &str) -> String {
    let mut bytes = run.as_bytes().to_vec();
    let is_uuid = |w: &[u8]| {
        w.iter()
            .enumerate()
            .all(|(n, b)| if matches!(n, 8 | 13 | 18 | 23) { *b == b'-' } else { b.is_ascii_hexdigit() })
    };
    for at in 0..bytes.len().saturating_sub(35) {
        let is_apart =
            |n: Option<usize>| n.and_then(|n| run.as_bytes().get(n)).is_none_or(|b| !b.is_ascii_alphanumeric());
        if is_uuid(&run.as_bytes()[at..at + 36]) && is_apart(at.checked_sub(1)) && is_apart(Some(at + 36)) {
            bytes[at..at + 36].fill(b'.');
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

fn is_hex(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_hexdigit())
        && text.contains(|c: char| c.is_ascii_digit())
        && text.contains(|c: char| c.is_ascii_alphabetic())
}

/// How capitals, small letters and digits change in a word.
struct Mixture {
    length: usize,
    classes: usize,
    digits: usize,
    changes: usize,
    capitals: usize,
}

fn mixture(text: &str) -> Mixture {
    let class = |c: char| match c {
        'A'..='Z' => 1,
        'a'..='z' => 2,
        '0'..='9' => 3,
        _ => 0,
    };
    let classes: Vec<u8> = text.chars().map(class).collect();
    let has = |wanted: u8| usize::from(classes.contains(&wanted));
    // A capital before small letters begins a word. What a separator parts was not next to each other.
    let changes =
        classes.windows(2).filter(|w| w[0] != w[1] && w[0] != 0 && w[1] != 0 && !(w[0] == 1 && w[1] == 2)).count();
    Mixture {
        length: classes.iter().filter(|c| **c != 0).count(),
        classes: has(1) + has(2) + has(3),
        digits: classes.iter().filter(|c| **c == 3).count(),
        changes,
        capitals: classes.windows(2).filter(|w| w == &[1, 1]).count(),
    }
}

impl Mixture {
    /// Words, dates and versions change rarely; keys change at almost every second character.
    fn is_random(&self) -> bool {
        let per_mille = self.changes * 1000 / self.length.max(1);
        match (self.classes, self.digits) {
            (3, _) => per_mille >= 220 || (self.length >= 24 && self.changes >= 5 && per_mille >= 150),
            (2, 0) if self.length < 20 => false,
            (2, 0) => {
                per_mille >= 190
                    || (self.capitals >= 6 && self.changes >= 3)
                    || (self.capitals >= 3 && self.changes >= 4)
            }
            (2, digits) if digits < 2 => false,
            (2, _) if self.changes < 4 => false,
            (2, _) => {
                per_mille >= 200 || (self.length >= 24 && per_mille >= 150) || (self.changes >= 6 && per_mille >= 120)
            }
            _ => false,
        }
    }
}

fn is_random(text: &str, shortest: usize) -> bool {
    let mixture = mixture(text);
    mixture.length >= shortest && mixture.is_random()
}
