//! The bundle of `report`: parts that are redacted, bounded, and packed into one archive with a manifest.

#[cfg(test)]
mod corpus;
pub mod redact;

use std::fmt::Write as _;
use std::io::{self, Write};

use jiff::Timestamp;

use daemon::out;

/// The most bytes of one part; of a longer one the end is kept.
const PART: usize = 512 * 1024;
/// The most bytes of all parts.
const ALL: usize = 8 << 20;

/// One part of the bundle, or why it could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name in the archive, with `/` between folders.
    pub name: String,
    /// What it is, for the manifest.
    pub about: &'static str,
    /// Its text.
    pub text: Result<String, String>,
}

/// A file of the archive, ready to be packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Redacts and bounds all parts and writes the manifest, which comes first. Whoever looks through it does so in a terminal, which
/// no text of others may steer.
pub fn assemble(parts: &[Part], known: &[String]) -> Vec<File> {
    let mut manifest = String::from(
        "What is in this bundle of mpm-monitor. Redacted were: values of environments, values of names that sound secret, user and\n\
         password in URLs, arguments that are passwords, private keys, and words that look like keys. Not included at all: events and what is in them\n\
         (prompts, tool input and output), screens of terminals, the token file, the environment of other programs.\n\
         Names of users, hosts and paths are left as they are. Look through it before you send it.\n\n",
    );
    let (mut files, mut left) = (Vec::new(), ALL);
    for part in parts {
        let line = match &part.text {
            Err(why) => format!("could not be had: {}", out::escaped(&redact::redact(why, known).0)),
            Ok(text) => {
                // Redacted before it is cut, so that no cut hides what a secret is.
                let (text, count) = redact::redact(text, known);
                let (text, cut) = last_bytes(out::escaped(&text).into_owned(), PART.min(left));
                left = left.saturating_sub(text.len());
                let mut line = format!("{} bytes, {count} redacted", text.len());
                if cut > 0 {
                    let _ = write!(line, ", the first {cut} bytes left out");
                }
                files.push(File { name: part.name.clone(), text });
                line
            }
        };
        let _ = writeln!(manifest, "{}: {} ({line})", part.name, part.about);
    }
    files.insert(0, File { name: "MANIFEST.txt".to_owned(), text: manifest });
    files
}

/// The end of a text, from the beginning of a line, and how much was left out.
fn last_bytes(text: String, most: usize) -> (String, usize) {
    if text.len() <= most {
        return (text, 0);
    }
    let from = text.len() - most;
    let from = (from..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    let from = text[from..].find('\n').map_or(from, |at| from + at + 1);
    (text[from..].to_owned(), from)
}

/// Packs the files below `folder`, each readable by its owner alone, as a gzipped tar archive.
///
/// # Errors
/// The writer's.
pub fn pack<W: Write>(files: &[File], folder: &str, now: Timestamp, out: W) -> io::Result<W> {
    let gzip = flate2::write::GzEncoder::new(out, flate2::Compression::default());
    let mut archive = tar::Builder::new(gzip);
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(now.as_second()).unwrap_or(0));
        archive.append_data(&mut header, format!("{folder}/{}", file.name), file.text.as_bytes())?;
    }
    archive.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn part(name: &str, text: Result<&str, &str>) -> Part {
        let text = text.map(str::to_owned).map_err(str::to_owned);
        Part { name: name.to_owned(), about: "a part", text }
    }

    #[test]
    fn parts_are_redacted_and_counted_and_a_missing_one_says_why() {
        let parts = [part("a.txt", Ok("API_TOKEN=abc\nknown-secret")), part("b.txt", Err("no known-secret here"))];
        let files = assemble(&parts, &["known-secret".to_owned()]);
        assert_eq!(files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["MANIFEST.txt", "a.txt"]);
        assert_eq!(files[1].text, "API_TOKEN=[redacted]\n[redacted]");
        let manifest = &files[0].text;
        assert!(manifest.contains("a.txt: a part (31 bytes, 2 redacted)"), "{manifest}");
        assert!(manifest.contains("b.txt: a part (could not be had: no [redacted] here)"), "{manifest}");
    }

    #[test]

    fn bundle_of_the_corpus_holds_no_secret() {
        for planted in corpus::planted(7) {
            let place = match planted.kind {
                "unit" => "user-8765/unit/x.service.d/override.conf",
                "receipt" => "user-8765/receipt.json",
                _ => "user-8765/log.txt",
            };
            let files = assemble(&[part(place, Ok(&planted.text)), part("gone", Err(&planted.text))], &[]);
            for file in files {
                let text = file.text.split_once("gone:").map_or(file.text.as_str(), |(_, line)| line);
                assert_eq!(planted.leaked(text), None, "{}: {}\n{}", file.name, planted.text, file.text);
            }
        }
    }

    #[test]
    fn what_steers_a_terminal_is_escaped_in_the_bundle() {
        let hostile = "{\"version\":\"\u{1b}[2J\u{9b}2J\u{202e}\"}";
        let files = assemble(&[part("a.json", Ok(hostile)), part("b.txt", Err("\u{1b}]0;x\u{7}"))], &[]);
        assert_eq!(files[1].text, "{\"version\":\"\\u001b[2J\\u009b2J\\u202e\"}");
        assert!(files[0].text.contains("could not be had: \\u001b]0;x\\u0007"), "{}", files[0].text);
    }

    #[test]
    fn a_long_part_keeps_its_end_and_all_together_have_a_bound() {
        let line = format!("{}\n", "é".repeat(50));
        let parts: Vec<Part> = (0..20).map(|n| part(&format!("{n}"), Ok(&line.repeat(20_000)))).collect();
        let files = assemble(&parts, &[]);
        let text = &files[1].text;
        assert!(text.len() <= PART && text.len() > PART - 200 && text.starts_with('é') && text.ends_with('\n'));
        assert!(files.iter().skip(1).map(|f| f.text.len()).sum::<usize>() <= ALL);
        assert!(files[0].text.contains("left out"));
    }

    #[test]
    fn the_archive_can_be_unpacked() {
        let files = assemble(&[part("u/a.txt", Ok("x"))], &[]);
        let packed = pack(&files, "folder", Timestamp::UNIX_EPOCH, Vec::new()).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed.as_slice()));
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            assert_eq!(entry.header().mode().unwrap(), 0o600);
            seen.push((entry.path().unwrap().display().to_string(), text));
        }
        assert_eq!(seen[0].0, "folder/MANIFEST.txt");
        assert_eq!(seen[1], ("folder/u/a.txt".to_owned(), "x".to_owned()));
    }
}
