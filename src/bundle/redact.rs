//! Takes secrets out of a text. One pure function; it errs on the side of taking too much.
//!
//! What it knows: values that the caller names; values of names that sound secret (`API_TOKEN=`, `"password": "..."`,
//! `<key>SECRET</key>`); `Authorization` and `Cookie` headers; user and password in URLs; words in the shapes that well-known
//! services give their keys; PEM blocks of private keys.

/// What stands in the place of a secret.
pub const MARK: &str = "[redacted]";

/// Shorter values than this are not looked for literally: they would be found everywhere.
const SHORTEST: usize = 6;

/// Parts of names whose values are secret.
const SECRET: [&str; 17] = [
    "token",
    "tokens",
    "secret",
    "secrets",
    "password",
    "passwd",
    "passphrase",
    "pass",
    "pwd",
    "credential",
    "credentials",
    "auth",
    "authorization",
    "cookie",
    "bearer",
    "apikey",
    "pat",
];
/// Names that say where a secret is, not what it is.
const PLACES: [&str; 6] = ["file", "path", "dir", "directory", "name", "id"];
/// Names whose values are several words.
const WHOLE_LINE: [&str; 4] = ["auth", "authorization", "cookie", "bearer"];
/// How keys of well-known services begin.
const SHAPES: [&str; 16] = [
    "sk-",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "AKIA",
    "ASIA",
    "AIza",
    "npm_",
    "pypi-",
];

/// A text without its secrets, and how many were taken out.
pub fn redact(text: &str, known: &[String]) -> (String, usize) {
    let mut count = 0;
    let mut text = text.to_owned();
    let mut known: Vec<&String> = known.iter().filter(|k| k.len() >= SHORTEST).collect();
    // A value that contains another one goes first.
    known.sort_by_key(|k| std::cmp::Reverse(k.len()));
    for secret in known {
        for form in [secret.clone(), escaped(secret)] {
            count += text.matches(&form).count();
            text = text.replace(&form, MARK);
        }
    }
    let text = blocks(&text, &mut count);
    let text = plist_values(&text, &mut count);
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
        let body = named_values(body, &mut count);
        let body = after_scheme(&body, &mut count);
        let body = urls(&body, &mut count);
        out.push_str(&shapes(&body, &mut count));
        out.push_str(end);
    }
    (out, count)
}

/// As JSON and unit files write it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Whether a value of this name is secret: `ANTHROPIC_API_KEY`, `access.token`, `authToken`.
pub fn is_secret_name(name: &str) -> bool {
    let parts = parts(name);
    let last = parts.last().map(String::as_str).unwrap_or_default();
    if PLACES.contains(&last) {
        return false;
    }
    (parts.len() > 1 && last == "key") || parts.iter().any(|p| SECRET.contains(&p.as_str()))
}

/// The words in a name, in lower case.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut before_is_lower = false;
    for c in name.chars() {
        let is_break = !c.is_ascii_alphanumeric();
        if (is_break || (c.is_ascii_uppercase() && before_is_lower)) && parts.last().is_some_and(|p| !p.is_empty()) {
            parts.push(String::new());
        }
        if !is_break && let Some(part) = parts.last_mut() {
            part.push(c.to_ascii_lowercase());
        }
        before_is_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
    }
    parts.retain(|p| !p.is_empty());
    parts
}

/// Private keys, from the first line of the block to the last.
fn blocks(text: &str, count: &mut usize) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("-----BEGIN ") {
        let block = &rest[at..];
        let title = block.lines().next().unwrap_or_default();
        if !title.contains("PRIVATE KEY") {
            let (before, after) = rest.split_at(at + 11);
            out.push_str(before);
            rest = after;
            continue;
        }
        out.push_str(&rest[..at]);
        out.push_str(MARK);
        *count += 1;
        let end = block.find("-----END ").map(|e| e + 9);
        // Without an end all the rest may be of the key.
        rest = end.and_then(|e| block[e..].find("-----").map(|d| &block[e + d + 5..])).unwrap_or("");
    }
    out.push_str(rest);
    out
}

/// `<key>NAME</key> <string>VALUE</string>` of property lists.
fn plist_values(text: &str, count: &mut usize) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("<key>") {
        out.push_str(before);
        out.push_str("<key>");
        let Some((name, tail)) = after.split_once("</key>") else {
            rest = after;
            break;
        };
        out.push_str(name);
        out.push_str("</key>");
        rest = tail;
        let value = tail.trim_start().strip_prefix("<string>").and_then(|v| v.split_once("</string>"));
        if let Some((value, after)) = value.filter(|(v, _)| is_secret_name(name) && !v.is_empty() && *v != MARK) {
            let _ = value;
            out.push_str(&tail[..tail.len() - tail.trim_start().len()]);
            out.push_str("<string>");
            out.push_str(MARK);
            out.push_str("</string>");
            *count += 1;
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// `NAME=VALUE`, `NAME: VALUE`, `"NAME": "VALUE"`, `"NAME=VALUE"`, `--NAME VALUE`.
fn named_values(line: &str, count: &mut usize) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    // The quote before the name, inside of which the whole assignment may stand.
    let mut around: Option<char> = None;
    while !rest.is_empty() {
        let length: usize = rest.chars().take_while(|c| is_of_name(*c)).map(char::len_utf8).sum();
        if length == 0 {
            let Some(c) = rest.chars().next() else { break };
            around = Some(c).filter(|c| matches!(c, '"' | '\''));
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let (name, after) = rest.split_at(length);
        out.push_str(name);
        rest = after;
        let quote = around.take();
        if !is_secret_name(name) {
            continue;
        }
        let Some((sign, value)) = sign(after, name) else { continue };
        let whole = parts(name).iter().any(|p| WHOLE_LINE.contains(&p.as_str()));
        let closed = sign.starts_with(['"', '\'']) || sign.starts_with("\\\"");
        let (shown, end) = value_end(value, quote.filter(|_| !closed), whole);
        if value[shown..end].is_empty() || value[shown..].starts_with(MARK) {
            continue;
        }
        out.push_str(sign);
        out.push_str(&value[..shown]);
        out.push_str(MARK);
        *count += 1;
        rest = &value[end..];
    }
    out
}

/// What stands between a name and its value, and the value.
fn sign<'a>(after: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let unquoted = after.strip_prefix("\\\"").or_else(|| after.strip_prefix(['"', '\''])).unwrap_or(after).trim_start();
    let value = match unquoted.strip_prefix(['=', ':']) {
        Some(value) => value.trim_start_matches('=').trim_start(),
        // A flag and its argument.
        None if name.starts_with("--") && after.starts_with(' ') => after.trim_start(),
        None => return None,
    };
    Some(after.split_at(after.len() - value.len()))
}

/// From where to where the value is secret: within its own quotes, up to the quote around the assignment, or a word.
fn value_end(value: &str, around: Option<char>, whole: bool) -> (usize, usize) {
    let own = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    if let Some(inner) = value.strip_prefix("\\\"") {
        return (2, inner.find("\\\"").map_or(value.len(), |at| at + 2));
    }
    if let Some(quote) = own {
        return (1, closing(&value[1..], quote).map_or(value.len(), |at| at + 1));
    }
    if value.starts_with('[') && !value.starts_with(MARK) {
        return (0, value.find(']').map_or(value.len(), |at| at + 1));
    }
    if let Some(quote) = around {
        return (0, closing(value, quote).unwrap_or(value.len()));
    }
    let ends = |c: char| {
        if whole {
            matches!(c, '"' | '\'')
        } else {
            c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | '&' | '<' | ')' | '}')
        }
    };
    (0, value.find(ends).unwrap_or(value.len()))
}

/// Where a quote is closed; `\` hides the next character.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut hidden = false;
    text.char_indices().find_map(|(at, c)| {
        let found = c == quote && !hidden;
        hidden = c == '\\' && !hidden;
        found.then_some(at)
    })
}

/// The word after `Bearer` or `Basic`.
fn after_scheme(line: &str, count: &mut usize) -> String {
    let lower = line.to_ascii_lowercase();
    let (mut out, mut done) = (String::new(), 0);
    for scheme in ["bearer ", "basic "] {
        let mut from = done;
        while let Some(at) = lower[from..].find(scheme).map(|a| a + from) {
            let start = at + scheme.len();
            let length = line[start..]
                .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';'))
                .unwrap_or(line.len() - start);
            let is_word_before = line[..at].chars().next_back().is_some_and(char::is_alphanumeric);
            if at >= done && length >= 8 && !is_word_before && !line[start..].starts_with(MARK) {
                out.push_str(&line[done..start]);
                out.push_str(MARK);
                *count += 1;
                done = start + length;
            }
            from = start;
        }
    }
    out.push_str(&line[done..]);
    out
}

/// `scheme://USER:PASSWORD@host`.
fn urls(line: &str, count: &mut usize) -> String {
    let (mut out, mut rest) = (String::new(), line);
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let authority = after
            .find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '<'))
            .unwrap_or(after.len());
        rest = after;
        if let Some(at) = after[..authority].rfind('@').filter(|&at| at > 0 && &after[..at] != MARK) {
            out.push_str(MARK);
            *count += 1;
            rest = &after[at..];
        }
    }
    out.push_str(rest);
    out
}

/// Words that look like a key of a well-known service, or a JSON Web Token.
fn shapes(line: &str, count: &mut usize) -> String {
    let is_of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '/' | '=');
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let length: usize = rest.chars().take_while(|c| is_of_key(*c)).map(char::len_utf8).sum();
        if length == 0 {
            let Some(c) = rest.chars().next() else { break };
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let (word, after) = rest.split_at(length);
        // After `NAME=` or in a path it is a part of the word.
        let starts = std::iter::once(0).chain(word.match_indices(['=', '/', '.']).map(|(at, c)| at + c.len()));
        let key = starts.into_iter().find(|&at| is_key(&word[at..]));
        match key {
            Some(at) => {
                out.push_str(&word[..at]);
                out.push_str(MARK);
                *count += 1;
            }
            None => out.push_str(word),
        }
        rest = after;
    }
    out
}

fn is_key(word: &str) -> bool {
    let known = word.len() >= 16 && SHAPES.iter().any(|s| word.starts_with(s));
    known || (word.len() >= 32 && word.starts_with("eyJ") && word.matches('.').count() >= 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clean(text: &str) -> String {
        redact(text, &[]).0
    }

    #[test]
    fn the_shapes_of_secrets() {
        for (text, wanted) in [
            ("API_TOKEN=abc123 next", "API_TOKEN=[redacted] next"),
            ("Environment=\"API_TOKEN=two words\" \"A=b\"", "Environment=\"API_TOKEN=[redacted]\" \"A=b\""),
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
            ("credentials = [\"a\", \"b\"] # x", "credentials = [redacted] # x"),
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
