//! Text for people: counts, and lines of a terminal's width.

/// The columns of a terminal that every line fits into.
pub const WIDTH: usize = 80;

/// A number with what it counts: "1 event", "2 events".
pub fn counted(n: impl Into<u64>, word: &str) -> String {
    let n = n.into();
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

/// Appends words, wrapped so that no line is longer than [`WIDTH`], from `column` on and then from `indent`; a word that is
/// longer stays whole.
pub fn wrap(words: &str, column: usize, indent: usize, text: &mut String) {
    let mut column = column;
    for (i, word) in words.split_whitespace().enumerate() {
        let width = word.chars().count();
        if i > 0 && column + 1 + width > WIDTH {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            column = indent;
        } else if i > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += width;
    }
    text.push('\n');
}
