//! What is asked of git and read in its answers, as text. Pure.

use serde::Serialize;

/// A commit, as `GET /api/file/diff` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Past {
    hash: String,
    full_hash: String,
    message: String,
    time_ago: String,
}

/// A commit, as `POST /api/git-history` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Commit {
    hash: String,
    author: String,
    date: String,
    message: String,
}

/// The parts of a commit that are asked for: number, author, how long ago, subject; each ends with a NUL.
pub const FORMAT: &str = "--format=%H%x00%an%x00%ar%x00%s%x00";

/// Reads [`FORMAT`]; a commit that was cut off is left out.
fn commits(text: &str) -> impl Iterator<Item = [&str; 4]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut part = || {
            let (part, after) = rest.split_once('\0')?;
            rest = after;
            Some(part)
        };
        Some([part()?.trim_start_matches('\n'), part()?, part()?, part()?])
    })
}

fn short(hash: &str) -> String {
    hash.chars().take(7).collect()
}

/// The commits of a file, for its history.
pub fn history(text: &str, most: usize) -> Vec<Commit> {
    let commit = |[hash, author, date, message]: [&str; 4]| Commit {
        hash: short(hash),
        author: author.to_owned(),
        date: date.to_owned(),
        message: message.to_owned(),
    };
    commits(text).take(most).map(commit).collect()
}

/// The commits of a file, beside its diff.
pub fn past(text: &str, most: usize) -> Vec<Past> {
    let past = |[hash, _, time_ago, message]: [&str; 4]| Past {
        hash: short(hash),
        full_hash: hash.to_owned(),
        message: message.to_owned(),
        time_ago: time_ago.to_owned(),
    };
    commits(text).take(most).map(past).collect()
}

/// Whether a text names a commit and nothing else: a number, or the name of a branch or tag. No option, no range, no path,
/// no search.
pub fn is_commit_name(text: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "._-/+".contains(c);
    (1..=255).contains(&text.len())
        && !text.starts_with(['-', '.', '/'])
        && text.chars().all(plain)
        && !text.contains("..")
        && !text.ends_with(".lock")
}

/// The mode and the number of the one file in what `ls-tree -z` says.
pub fn tree_entry(text: &str) -> Option<(&str, &str)> {
    let entry = text.split('\0').next()?;
    let mut words = entry.split('\t').next()?.split(' ');
    match (words.next()?, words.next()?, words.next()?) {
        (mode, "blob", number) => Some((mode, number)),
        _ => None,
    }
}

/// The diff of one file out of what git says of two unnamed ones: the changes are git's, the names are ours. `mode` is that of
/// the committed file, if there is one.
pub fn named_diff(unnamed: &str, path: &str, mode: Option<&str>) -> String {
    let index = unnamed.lines().find_map(|line| line.strip_prefix("index "));
    let (before, after) = (quoted("a/", path), quoted("b/", path));
    let mut out = format!("diff --git {before} {after}\n");
    if mode.is_none() {
        out.push_str("new file mode 100644\n");
    }
    if let Some(index) = index {
        let numbers = index.split(' ').next().unwrap_or_default();
        let now = numbers.split_once("..").map_or("", |(_, now)| now);
        let numbers = if mode.is_none() { format!("0000000..{now}") } else { numbers.to_owned() };
        let mode = mode.map(|mode| format!(" {mode}")).unwrap_or_default();
        out.push_str(&format!("index {numbers}{mode}\n"));
    }
    let before = if mode.is_none() { "/dev/null" } else { &before };
    // Where a name has spaces, git marks its end.
    let tab = |name: &str| if name.contains(' ') { "\t" } else { "" };
    let (before_tab, after_tab) = (tab(before), tab(&after));
    let hunks = unnamed.find("\n@@ ").map(|at| &unnamed[at + 1..]);
    match hunks {
        Some(hunks) => out.push_str(&format!("--- {before}{before_tab}\n+++ {after}{after_tab}\n{hunks}")),
        None if unnamed.contains("\nBinary files ") => {
            out.push_str(&format!("Binary files {before} and {after} differ\n"))
        }
        None => {}
    }
    out
}

/// What a commit did to one file, out of what `show` says of a path: where that was a folder once, it also says what was
/// done to every file in there, whatever their names are. A line of a file or of a message never begins as a heading does.
pub fn only_of(shown: &str, path: &str) -> String {
    let ours = [
        format!("diff --git {} {}", quoted("a/", path), quoted("b/", path)),
        format!("diff --cc {}", quoted("", path)),
    ];
    let (mut is_ours, mut all, mut some) = (true, true, false);
    let keep = |line: &&str| {
        if line.starts_with("diff --") {
            is_ours = ours.iter().any(|heading| heading == line.trim_end_matches('\n'));
            all &= is_ours;
            some |= is_ours;
        }
        is_ours
    };
    let kept = shown.split_inclusive('\n').filter(keep).collect();
    // Whoever did something to the others alone did nothing to this one.
    if all || some { kept } else { String::new() }
}

/// A name as git writes it in a diff, with what stands before it there.
fn quoted(before: &str, path: &str) -> String {
    if !path.contains(|c: char| c.is_ascii_control() || c == '"' || c == '\\') {
        return format!("{before}{path}");
    }
    let escaped: String = path
        .chars()
        .map(|c| match c {
            '\x07' => "\\a".to_owned(),
            '\x08' => "\\b".to_owned(),
            '\x0b' => "\\v".to_owned(),
            '\x0c' => "\\f".to_owned(),
            '\n' => "\\n".to_owned(),
            '\t' => "\\t".to_owned(),
            '\r' => "\\r".to_owned(),
            '"' | '\\' => format!("\\{c}"),
            c if c.is_ascii_control() => format!("\\{:03o}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    format!("\"{before}{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_read_whatever_is_in_their_subjects() {
        let text = "3c26465a72f0\0t | u\0two days ago\0a | b\0\nffff\0x\0y\0z\0\ncut\0off";
        let all = history(text, 9);
        assert_eq!(all.len(), 2);
        assert_eq!((&*all[0].hash, &*all[0].author, &*all[0].message), ("3c26465", "t | u", "a | b"));
        assert_eq!((&*all[1].hash, &*all[1].date), ("ffff", "y"));
        assert_eq!(past(text, 1)[0].full_hash, "3c26465a72f0");
        assert!(history("", 9).is_empty());
    }

    #[test]
    fn of_what_a_commit_did_only_that_to_the_file_is_kept() {
        let head = "commit 1\n\n    diff --git a/y b/y\n\n";
        let ours = "diff --git a/x b/x\nnew file mode 100644\n+diff --git a/z b/z\n";
        let other = "diff --git a/x/.env b/x/.env\ndeleted file mode 100644\n-SECRET\n";
        assert_eq!(only_of(&format!("{head}{other}{ours}{other}"), "x"), format!("{head}{ours}"));
        assert_eq!(only_of(&format!("{head}{other}"), "x"), "");
        assert_eq!(only_of(head, "x"), head);
        let merge = "diff --cc x\n@@@ -1 -1 +1 @@@\n- a\n -b\n";
        assert_eq!(only_of(&format!("{head}{merge}diff --cc x/y\n++c"), "x"), format!("{head}{merge}"));
        let quoted = "diff --git \"a/x\\n\" \"b/x\\n\"\n+1";
        assert_eq!(only_of(quoted, "x\n"), quoted);
    }

    #[test]
    fn a_commit_is_a_name_and_nothing_else() {
        for good in ["3c26465", "main", "feature/x-1", "v1.0.0", "HEAD"] {
            assert!(is_commit_name(good), "{good}");
        }
        for bad in [
            "",
            "-x",
            "--output=/tmp/x",
            "a..b",
            "HEAD:a.txt",
            "HEAD~1",
            "HEAD^",
            "@{1}",
            ":/text",
            "a b",
            "a\nb",
            "/x",
            "a\0",
            "x.lock",
            "*",
            "$(id)",
            "`id`",
            "a;b",
            &"a".repeat(256),
        ] {
            assert!(!is_commit_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_diff_gets_its_names_back() {
        let unnamed = "diff --git a/old b/new\nindex ce01362..2ee250a 100644\n--- a/old\n+++ b/new\n@@ -1 +1,2 @@\n hello\n+change\n";
        assert_eq!(
            named_diff(unnamed, "a.txt", Some("100755")),
            "diff --git a/a.txt b/a.txt\nindex ce01362..2ee250a 100755\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1,2 @@\n hello\n+change\n"
        );
        let new = named_diff(unnamed, "a\n\"b", None);
        assert!(
            new.contains("new file mode 100644\nindex 0000000..2ee250a\n--- /dev/null\n+++ \"b/a\\n\\\"b\"\n@@"),
            "{new}"
        );
        let binary = "diff --git a/old b/new\nindex 1..2 100644\nBinary files a/old and b/new differ\n";
        assert!(named_diff(binary, "x", Some("100644")).ends_with("\nBinary files a/x and b/x differ\n"));
        assert_eq!(quoted("", "a\x07\x0b\x0c\x08\x01"), "\"a\\a\\v\\f\\b\\001\"", "as git writes them");
        assert_eq!(tree_entry("100644 blob abc\ta.txt\0"), Some(("100644", "abc")));
        assert_eq!(tree_entry("040000 tree abc\ta\0"), None);
        assert_eq!(tree_entry(""), None);
    }
}
