//! The corpus on which redaction is measured: `planted.txt` and `kept.txt`, which say how they are written.
#![allow(dead_code, reason = "each of the tests that include it needs a part")]

/// A text with secrets in it.
#[derive(Debug, Clone)]
pub struct Planted {
    /// What kind of text it is: `config`, `unit`, `log` and so on.
    pub kind: &'static str,
    /// The text as a bundle could have it.
    pub text: String,
    /// The secrets in it.
    pub secrets: Vec<String>,
    /// The text without them.
    pub around: String,
}

/// All texts with secrets; another seed gives other random characters.
pub fn planted(seed: u64) -> Vec<Planted> {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    lines(include_str!("planted.txt")).map(|line| plant(line, &mut dice)).collect()
}

/// The lines that must stay as they are.
pub fn kept() -> impl Iterator<Item = &'static str> {
    lines(include_str!("kept.txt"))
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|l| !l.is_empty() && !l.starts_with("# ") || l.starts_with("# mpm-monitor"))
}

fn plant(line: &'static str, dice: &mut Dice) -> Planted {
    let (kind, template) = line.split_once(": ").expect("a kind");
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let code = after.split_once('}').and_then(|(code, tail)| Some((code.split_at_checked(1)?, tail)));
        let random = code.and_then(|((set, n), tail)| Some((alphabet(set)?, n.parse::<usize>().ok()?, tail)));
        match random {
            Some((set, n, tail)) => {
                filled.extend((0..n).map(|_| char::from(set[dice.below(set.len())])));
                rest = tail;
            }
            None => {
                filled.push('{');
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    let filled = filled.replace('⏎', "\n");
    let mut planted = Planted { kind, text: String::new(), secrets: Vec::new(), around: String::new() };
    let mut pieces = filled.split('«');
    let first = pieces.next().unwrap_or_default();
    planted.text.push_str(first);
    planted.around.push_str(first);
    for piece in pieces {
        let (secret, after) = piece.split_once('»').expect("an end of the secret");
        planted.text.push_str(secret);
        planted.text.push_str(after);
        planted.around.push('\0');
        planted.around.push_str(after);
        planted.secrets.push(secret.to_owned());
    }
    planted
}

fn alphabet(set: &str) -> Option<&'static [u8]> {
    let all = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    Some(match set {
        "a" => all,
        "l" => &all[26..],
        "u" => b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
        "x" => b"0123456789abcdef",
        "b" => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
        "s" => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
        "d" => b"0123456789",
        _ => return None,
    })
}

impl Planted {
    /// A piece of one of the secrets that can be read in `out`: six characters that the rest of the text does not have.
    pub fn leaked(&self, out: &str) -> Option<String> {
        self.leaked_by(out, 6, &self.around)
    }

    /// The same by pieces of this length that `around` does not have, for an `out` with other texts in it.
    pub fn leaked_by(&self, out: &str, length: usize, around: &str) -> Option<String> {
        self.secrets.iter().filter(|s| length == 6 || s.chars().count() >= 8).find_map(|secret| {
            let chars: Vec<char> = secret.chars().collect();
            let pieces = chars.windows(chars.len().min(length)).map(|w| w.iter().collect::<String>());
            pieces.filter(|p| !around.contains(p)).find(|p| out.contains(p))
        })
    }
}

/// Random enough for texts, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % limit as u64).unwrap_or(0)
    }
}
