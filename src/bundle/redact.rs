//! Takes secrets out of a text. One pure function; it errs on the side of taking too much.
//!
//! Each rule reads the whole text and says where secrets are; what they found together is replaced. The rules:
//! values that the caller names; values of names that sound secret ([`named`]); every value of an environment ([`environment`]);
//! arguments that only their program gives a meaning ([`commands`]); user and password in URLs and paths of webhooks ([`urls`]);
//! blocks of private keys and lines of password files ([`blocks`]); the word after `Bearer` and `Basic`; the shapes that services
//! give their keys, and words that are long and random ([`shapes`]); all of this in strings that have escapes, too ([`written`]).

mod blocks;
mod commands;
mod environment;
mod named;
mod names;
mod shapes;
mod text;
mod urls;
mod written;

use std::ops::Range;

/// What stands in the place of a secret.
pub const MARK: &str = "[redacted]";

/// Shorter values than this are not looked for literally: they would be found everywhere.
const SHORTEST: usize = 6;

/// How often the rules are applied at most. Two passes do for all text that is well formed.
const PASSES: usize = 8;

pub use names::is_secret_name;

/// A text without its secrets, and how many were taken out. What a mark leaves of a text with unbalanced brackets may read
/// differently from the whole, so the rules are applied until they find nothing more.
pub fn redact(text: &str, known: &[String]) -> (String, usize) {
    let (mut out, count) = pass(text, known);
    for _ in 1..PASSES {
        let (next, _) = pass(&out, known);
        if next == out {
            break;
        }
        out = next;
    }
    (out, count)
}

fn pass(text: &str, known: &[String]) -> (String, usize) {
    let mut found: Vec<Range<usize>> = Vec::new();
    for secret in known.iter().filter(|k| k.len() >= SHORTEST) {
        for form in [secret.clone(), escaped(secret)] {
            found.extend(text.match_indices(&form).map(|(at, form)| at..at + form.len()));
        }
    }
    found.extend(find_all(text));
    replaced(text, found)
}

/// Where the rules see secrets.
fn find_all(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let rules = [
        named::find,
        environment::find,
        commands::find,
        urls::find,
        blocks::find,
        after_scheme,
        shapes::find,
        written::find,
    ];
    for rule in rules {
        rule(text, &mut found);
    }
    found
}

/// Whether a value of an environment may be a secret, and is to be looked for everywhere: no path, and no number or address.
pub fn may_be_secret(value: &str) -> bool {
    value.contains(|c: char| c.is_alphabetic()) && !named::is_place(value)
}

/// The text with a mark for each of the ranges; what overlaps or touches is one.
fn replaced(text: &str, mut found: Vec<Range<usize>>) -> (String, usize) {
    found.sort_by_key(|r| (r.start, r.end));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in found.into_iter().filter(|r| r.start < r.end) {
        match merged.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => merged.push(range),
        }
    }
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for range in &merged {
        out.push_str(&text[at..range.start]);
        out.push_str(MARK);
        at = range.end;
    }
    out.push_str(&text[at..]);
    (out, merged.len())
}

/// As JSON and unit files write it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The word after `Bearer` or `Basic`.
fn after_scheme(text: &str, found: &mut Vec<Range<usize>>) {
    let lower = text.to_ascii_lowercase();
    for scheme in ["bearer ", "basic "] {
        for (at, _) in lower.match_indices(scheme) {
            let start = at + scheme.len();
            let end = text::skip(text, start, |c| !c.is_whitespace() && !matches!(c, '"' | '\'' | ',' | ';' | '\\'));
            if end - start >= 8 && !text[..at].ends_with(char::is_alphanumeric) {
                found.push(start..end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::corpus;
    use proptest::prelude::*;

    /// How often the corpus is filled with other random characters.
    const SEEDS: u64 = 40;

    fn clean(text: &str) -> String {
        redact(text, &[]).0
    }

    #[test]
    fn the_shapes_of_secrets() {
        for (text, wanted) in [
            ("API_TOKEN=abc123 next", "API_TOKEN=[redacted]"),
            ("Environment=\"API_TOKEN=two words\" \"A=b\"", "Environment=\"API_TOKEN=[redacted]\" \"A=[redacted]\""),
            ("{\"password\": \"a\\\"b\", \"port\": 1}", "{\"password\": \"[redacted]\", \"port\": 1}"),
            ("{\\\"password\\\": \\\"ab\\\", 1}", "{\\\"password\\\": \\\"[redacted]\\\", 1}"),
            ("authorization: Bearer abc def", "authorization: [redacted]"),
            ("sent Bearer abcdefgh12 to it", "sent Bearer [redacted] to it"),
            ("Cookie: a=b; c=d", "Cookie: [redacted]"),
            ("redis://ann:pw@host:6379/0", "redis://[redacted]@host:6379/0"),
            ("GET /x?token=abc&port=1", "GET /x?token=[redacted]&port=1"),
            ("--api-key abc --port 1", "--api-key [redacted] --port 1"),
            ("key sk-ant-0123456789abcdef is", "key [redacted] is"),
            ("X=ghp_0123456789abcdef", "X=[redacted]"),
            ("<key>MY_TOKEN</key>\n\t<string>a b</string>", "<key>MY_TOKEN</key>\n\t<string>[redacted]</string>"),
            ("a\n-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nb", "a\n[redacted]\nb"),
            ("credentials = [\"a\", \"b\"] # x", "credentials = [[redacted]] # x"),
        ] {
            assert_eq!(clean(text), wanted);
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "token_file = \"/home/ann/token\"",
            "{\"code\":\"token-file\",\"outcome\":\"verified\"}",
            "http://127.0.0.1:8765/health",
            "instance 0123456789abcdef0123456789abcdef",
            "# mpm-monitor unit v1 program=0.1.0 sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "CREDENTIALS_DIRECTORY=/run/credentials/x",
            "keyboard=yes monkey: 3 passed",
            "mail ann@example.org",
            "-----BEGIN CERTIFICATE-----",
        ] {
            assert_eq!(redact(text, &[]), (text.to_owned(), 0));
        }
    }

    #[test]
    fn values_that_are_known_are_found_anywhere_and_short_ones_are_not_looked_for() {
        let known = ["hunter2hunter2".to_owned(), "with \"quotes\"".to_owned(), "ab".to_owned()];
        let (text, count) = redact("x hunter2hunter2y {\"a\":\"with \\\"quotes\\\"\"} ab", &known);
        assert_eq!((text.as_str(), count), ("x [redacted]y {\"a\":\"[redacted]\"} ab", 2));
    }

    /// Every way in which a secret stands in something that goes into a bundle.
    fn planted(secret: &str) -> Vec<String> {
        let names = ["API_TOKEN", "my_secret", "dbPassword", "ANTHROPIC_API_KEY", "access.token", "X-Auth", "passwd"];
        let mut all = vec![
            format!("Authorization: Bearer {secret}"),
            format!("curl -H 'Authorization: Basic {secret}' http://x"),
            format!("postgres://ann:{secret}@db/x"),
            format!("https://{secret}@github.com/a/b"),
            format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----"),
            format!("sk-{secret}"),
        ];
        for name in names {
            all.push(format!("{name}={secret}"));
            all.push(format!("{name} = \"{secret}\""));
            all.push(format!("{name}: {secret}"));
            all.push(format!("\"{name}\": \"{secret}\","));
            all.push(format!("Environment=\"{name}={secret} and {secret}\""));
            all.push(format!("{{\\\"{name}\\\":\\\"{secret}\\\"}}"));
            all.push(format!("<key>{name}</key>\n<string>{secret}</string>"));
            all.push(format!("--{name} {secret}"));
            all.push(format!("?{name}={secret}&a=b"));
        }
        all
    }

    /// What leaks of the texts of the corpus with this parity.
    fn leaks(seed: u64, parity: usize) -> Vec<String> {
        let half = corpus::planted(seed).into_iter().enumerate().filter(|(n, _)| n % 2 == parity);
        let cleaned = half.map(|(_, p)| (clean(&p.text), p));
        cleaned.filter_map(|(out, p)| Some(format!("{}: {} -> {out} ({})", p.kind, p.text, p.leaked(&out)?))).collect()
    }

    #[test]
    fn corpus_of_planted_secrets_leaks_none() {
        for (name, parity) in [("written for", 0), ("held back", 1)] {
            let texts = corpus::planted(1).len() / 2 + (1 - parity) * (corpus::planted(1).len() % 2);
            let leaks: Vec<String> = (1..=SEEDS).flat_map(|seed| leaks(seed, parity)).collect();
            println!("redaction, {name}: leaked {} of {texts} texts, filled {SEEDS} times", leaks.len());
            assert!(texts >= 200 && leaks.is_empty(), "{leaks:#?}");
        }
    }

    #[test]
    fn corpus_of_plain_lines_stays_readable() {
        let changed: Vec<_> = corpus::kept().map(|l| (l, clean(l))).filter(|(l, out)| l != out).collect();
        println!("redaction: kept={} of {}", corpus::kept().count() - changed.len(), corpus::kept().count());
        assert!(changed.is_empty(), "{changed:#?}");
    }

    #[test]
    fn redact_of_long_lines_takes_linear_time() {
        for piece in [
            "a.token=x b=y ",
            "\"token\": \"x\", ",
            "password ",
            "{\"auth\": [",
            "'key' \"\\\"",
            "-----BEGIN x",
            "://a:b ",
            "Environment=A=b ",
            "env: {",
            "a:b@",
            "<token>",
            "[token",
            "\\n",
            "token: \"a",
            "token=`",
            "curl -u \"a",
            "secret: |\n  x\n",
            "$a$",
            "2026-11-22T10:00:00Z INFO listening on 127.0.0.1:8765 for session 01936f2a-7c3b-7d1e-8f4a-5b6c7d8e9f01\n",
        ] {
            let mut took = Vec::new();
            for size in [8, 32] {
                let text = piece.repeat(size * 1024 / piece.len());
                let begun = std::time::Instant::now();
                redact(&text, &[]);
                took.push(begun.elapsed().as_millis());
            }
            println!("{piece:?}: {took:?} ms");
            // The square would be 16 times as long.
            assert!(took[1] < took[0] * 10 + 300, "{piece:?}: {took:?} ms");
        }
    }

    proptest! {
        #[test]
        fn no_planted_secret_is_left(secret in "[A-Za-z0-9]{20,40}", before in "[a-z {}:,]{0,20}", after in "[a-z {}:,]{0,20}") {
            for text in planted(&secret) {
                let text = format!("{before} {text}\n{after}");
                let (out, count) = redact(&text, &[]);
                prop_assert!(!out.contains(&secret) && count > 0, "{} -> {}", text, out);
            }
        }

        #[test]
        fn a_known_secret_is_left_nowhere(secret in "[!-~]{6,30}", text in "[ -~]{0,60}") {
            let (out, _) = redact(&format!("{text}{secret}{text}"), std::slice::from_ref(&secret));
            // The mark itself may hold what somebody chose for a secret.
            prop_assert!(!out.replace(MARK, " ").contains(&secret), "{}", out);
        }

        #[test]
        fn nothing_panics_and_twice_is_once(text in any::<String>(), more in "[a-zA-Z=:\"'\\\\{}<>/@ _\n-]{0,120}") {
            for text in [text, format!("token={more}"), format!("{more}password{more}")] {
                let (once, _) = redact(&text, &[]);
                prop_assert_eq!(&redact(&once, &[]).0, &once);
            }
        }

        #[test]
        fn a_text_without_suspicious_words_stays(text in "[b-df-np-z ,()\n]{0,200}") {
            prop_assert_eq!(redact(&text, &[]), (text, 0));
        }
    }
}
