//! What a machine's files are, to compare before and after.

use std::collections::BTreeMap;

/// Each path with its type, mode, owner and content's hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<String, String>);

impl Tree {
    /// Reads what `tests/clients/tree.py` prints: a path, a tab, the rest.
    pub fn from_lines(text: &str) -> Self {
        let pair = |line: &str| line.split_once('\t').map(|(path, rest)| (path.to_owned(), rest.to_owned()));
        Self(text.lines().filter_map(pair).collect())
    }

    /// The differences to a later tree, one a line: `+` new, `-` gone, `~` changed.
    pub fn differences(&self, later: &Self) -> Vec<String> {
        let gone = self.0.keys().filter(|p| !later.0.contains_key(*p)).map(|p| format!("- {p}"));
        let new = later.0.iter().filter_map(|(p, is)| match self.0.get(p) {
            None => Some(format!("+ {p} {is}")),
            Some(was) if was != is => Some(format!("~ {p} {was} -> {is}")),
            Some(_) => None,
        });
        gone.chain(new).collect()
    }
}
