//! What Claude Code hands over: read within a bound and a deadline, and cut down where it is too much.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};

/// The most that is kept of an input.
pub const KEEP: usize = 512 << 10;
/// The most that is read of one; what follows is not looked at.
const READ: u64 = 64 << 20;
/// The most bytes of one string, in an input that is larger than [`KEEP`].
const LONGEST: usize = 8 << 10;

/// An input, as far as it came.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// Its text.
    pub text: String,
    /// How many bytes were left out.
    pub cut: u64,
}

/// Reads standard input until it ends, or holds a whole object and nothing more comes, or the deadline passes.
///
/// # Errors
/// When it cannot be read at all.
pub fn read(from: impl AsFd, deadline: Instant) -> io::Result<Input> {
    let mut kept = Kept::default();
    let mut buffer = vec![0_u8; 64 << 10];
    let mut whole_at = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Whoever keeps the pipe open after a whole object has said all there is to say.
        let ends = kept.out.trim_ascii_end();
        let maybe_whole = ends.ends_with(b"}") && ends.len() != whole_at;
        let wait = if maybe_whole { std::time::Duration::ZERO } else { left };
        let timeout = rustix::time::Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&from, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) if maybe_whole => {
                whole_at = ends.len();
                if super::json::Members::of(&String::from_utf8_lossy(ends)).is_some() {
                    break;
                }
                continue;
            }
            Ok(0) => break,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        match rustix::io::read(&from, &mut buffer[..]) {
            Ok(0) => break,
            Ok(n) => kept.take(&buffer[..n]),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        if kept.seen >= READ || left.is_zero() {
            break;
        }
    }
    let text = match String::from_utf8(kept.out) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    Ok(Input { text, cut: kept.cut })
}

/// What is kept. As long as all of it is little, that is all of it; from then on long strings lose their ends.
#[derive(Debug, Default)]
struct Kept {
    out: Vec<u8>,
    cut: u64,
    seen: u64,
    shortens: bool,
    scan: Scan,
}

/// Where in the JSON the next byte is.
#[derive(Debug, Default)]
struct Scan {
    in_string: bool,
    escaped: bool,
    hex_left: u8,
    kept: usize,
    cutting: bool,
}

impl Kept {
    fn take(&mut self, bytes: &[u8]) {
        self.seen += bytes.len() as u64;
        if !self.shortens && self.out.len() + bytes.len() <= KEEP {
            self.out.extend_from_slice(bytes);
            return;
        }
        if !self.shortens {
            self.shortens = true;
            for byte in std::mem::take(&mut self.out) {
                self.one(byte);
            }
        }
        for byte in bytes {
            self.one(*byte);
        }
    }

    fn one(&mut self, byte: u8) {
        let scan = &mut self.scan;
        let mut keep = true;
        if !scan.in_string {
            if byte == b'"' {
                *scan = Scan { in_string: true, ..Scan::default() };
            }
        } else {
            let between = !scan.escaped && scan.hex_left == 0;
            let ends = between && byte == b'"';
            if between && !scan.cutting && scan.kept >= LONGEST && !ends && !(0x80..0xc0).contains(&byte) {
                scan.cutting = true;
                self.out.extend_from_slice("…".as_bytes());
            }
            keep = !scan.cutting || ends;
            scan.kept += 1;
            if ends {
                scan.in_string = false;
            } else if scan.escaped {
                scan.escaped = false;
                scan.hex_left = if byte == b'u' { 4 } else { 0 };
            } else if scan.hex_left > 0 {
                scan.hex_left -= 1;
            } else {
                scan.escaped = byte == b'\\';
            }
        }
        if keep && self.out.len() < KEEP {
            self.out.push(byte);
        } else {
            self.cut += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    fn kept(text: &str, piece: usize) -> (String, u64) {
        let mut kept = Kept::default();
        text.as_bytes().chunks(piece).for_each(|p| kept.take(p));
        (String::from_utf8(kept.out).unwrap(), kept.cut)
    }

    #[test]
    fn little_is_kept_as_it_is_and_long_strings_lose_their_ends() {
        let small = format!(r#"{{"a":"{}"}}"#, "x".repeat(100_000));
        assert_eq!(kept(&small, 7), (small.clone(), 0));
        let long = "ä\\\"\\u00e4\\\\".repeat(60_000);
        let large = format!(r#"{{"a":"{long}","tool_use_id":"t","o":{{"b":"{long}"}},"end":[1]}}"#);
        for piece in [large.len(), 4093] {
            let (text, cut) = kept(&large, piece);
            assert!(text.len() < 3 * LONGEST, "{}", text.len());
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&value["tool_use_id"], &value["end"][0]), (&"t".into(), &1.into()));
            assert!(value["o"]["b"].as_str().unwrap().ends_with('…'));
            assert_eq!(cut as usize, large.len() - text.len() + 2 * "…".len());
        }
    }

    #[test]
    fn what_is_too_much_without_long_strings_is_cut_at_the_end() {
        let large = format!(r#"{{"session_id":"s","a":[{}]}}"#, "1,".repeat(400_000));
        let (text, cut) = kept(&large, 5000);
        assert_eq!((text.len(), text.len() + cut as usize), (KEEP, large.len()));
        assert_eq!(super::super::json::Members::salvaged(&text).text("session_id").as_deref(), Some("s"));
    }

    #[test]
    fn an_open_pipe_with_a_whole_object_is_not_waited_for() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"{\"a\":{\"b\":1}}\n").unwrap();
        let input = read(&reader, Instant::now() + Duration::from_secs(60)).unwrap();
        assert_eq!(input, Input { text: "{\"a\":{\"b\":1}}\n".into(), cut: 0 });
        drop(writer);
    }

    #[test]
    fn an_input_that_never_ends_is_left_at_the_deadline() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"{\"session_id\":\"s\",\"a\":{}").unwrap();
        let began = Instant::now();
        let input = read(&reader, began + Duration::from_millis(30)).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(30));
        assert_eq!(input.text, "{\"session_id\":\"s\",\"a\":{}");
        drop(writer);
    }
}
