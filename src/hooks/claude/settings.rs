//! The text of a settings file of Claude Code: which hooks it holds, the same with ours in it, and without. Pure.
//!
//! A file is edited as the tree of its characters, so comments, spaces, line ends and everything that is not ours stay as
//! they are.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstObjectProp, CstRootNode};

/// The events of Claude Code that our hook is put in for, and the matcher where one is needed. Every version since 1.0.85
/// knows them; one that does not know an event's name may refuse all of its settings.
pub const EVENTS: [(&str, Option<&str>); 9] = [
    ("PreToolUse", Some("*")),
    ("PostToolUse", Some("*")),
    ("UserPromptSubmit", None),
    ("Notification", None),
    ("Stop", None),
    ("SubagentStop", None),
    ("SessionStart", None),
    ("SessionEnd", None),
    ("PreCompact", None),
];
/// Seconds after which Claude Code gives up on our hook; it ends long before.
const TIMEOUT: &str = "5";
/// The mark that some editors put in front.
const MARK: char = '\u{feff}';

/// Whose a hook is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// Ours.
    Ours,
    /// Claude MPM's own, which posts to the same monitor.
    ClaudeMpm,
    /// Anybody else's.
    Other,
}

/// One hook of a settings file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// The event of Claude Code, for example `PreToolUse`.
    pub event: String,
    /// The command line that Claude Code gives to a shell.
    pub command: String,
    /// Whose it is.
    pub owner: Owner,
}

/// Why a settings file is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be understood.
    #[error("line {line}, column {column}: not valid JSON: {message}")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What was expected.
        message: String,
    },
    /// It is JSON, but not what Claude Code reads.
    #[error("`{place}` is not {wanted}; Claude Code would not read it either")]
    Shape {
        /// Where in the file.
        place: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A name stands there more than once.
    #[error("`{place}` stands there more than once, and Claude Code reads only the last; make one of them")]
    Twice {
        /// Where in the file.
        place: String,
    },
}

impl SettingsError {
    /// A name for programs that never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "settings_malformed",
            Self::Shape { .. } => "settings_shape",
            Self::Twice { .. } => "settings_twice",
        }
    }
}

fn shape(place: impl Into<String>, wanted: &'static str) -> SettingsError {
    SettingsError::Shape { place: place.into(), wanted }
}

/// The words of a command line, as far as quotes and backslashes go.
pub fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut is_word, mut quote) = (Vec::new(), String::new(), false, None);
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => (quote, is_word) = (Some(c), true),
            (Some(q), c) if c == q => quote = None,
            (None | Some('"'), '\\') => {
                word.extend(chars.next());
                is_word = true;
            }
            (None, c) if c.is_whitespace() => {
                if std::mem::take(&mut is_word) {
                    words.push(std::mem::take(&mut word));
                }
            }
            (_, c) => {
                word.push(c);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

/// A word as a shell reads it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Whose hook a command line is.
pub fn owner(command: &str) -> Owner {
    let words = words(command);
    let name = |word: &String| word.rsplit('/').next().unwrap_or_default().to_owned();
    let is_program = |name: &str| {
        let version = name.strip_prefix("mpm-monitor");
        version.is_some_and(|v| v.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')))
    };
    if words.windows(2).any(|pair| is_program(&name(&pair[0])) && pair[1] == "hook") {
        return Owner::Ours;
    }
    let theirs = |word: &String| {
        let name = name(word);
        name.starts_with("claude-hook") || name == "hook_wrapper.sh" || word.contains("claude_mpm")
    };
    if words.iter().any(theirs) { Owner::ClaudeMpm } else { Owner::Other }
}

/// The line and column of a byte, counted from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    (line, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1)
}

fn parse(text: &str) -> Result<CstRootNode, SettingsError> {
    // What people write into such files; the rest of JSON5 Claude Code would not read.
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    CstRootNode::parse(text, &options).map_err(|error| {
        let (line, column) = place(text, error.range().start);
        SettingsError::Malformed { line, column, message: error.kind().to_string() }
    })
}

/// The value of a member, and whether there is one. What is put into one of two is not what Claude Code reads.
fn member(object: &CstObject, name: &str, place: &str) -> Result<Option<Option<CstNode>>, SettingsError> {
    let all = object.properties().into_iter().filter(|prop| prop.decoded_name().as_deref() == Some(name));
    match &*all.collect::<Vec<_>>() {
        [] => Ok(None),
        [one] => Ok(Some(one.value())),
        _ => Err(SettingsError::Twice { place: place.to_owned() }),
    }
}

/// The `hooks` of a file, if there are any.
fn hooks_of(root: &CstRootNode) -> Result<Option<CstObject>, SettingsError> {
    let Some(value) = root.value() else { return Ok(None) };
    let Some(object) = value.as_object() else { return Err(shape("the file", "an object")) };
    match member(&object, "hooks", "hooks")? {
        None => Ok(None),
        Some(value) => value.and_then(|v| v.as_object()).map(Some).ok_or_else(|| shape("hooks", "an object")),
    }
}

/// The groups of one event.
fn groups(hooks: &CstObject, event: &str) -> Result<Option<CstArray>, SettingsError> {
    let place = format!("hooks.{event}");
    match member(hooks, event, &place)? {
        None => Ok(None),
        Some(value) => value.and_then(|v| v.as_array()).map(Some).ok_or_else(|| shape(place, "an array")),
    }
}

/// The command lines of a group, each with its node.
fn commands(group: &CstNode) -> Vec<(CstNode, String)> {
    let of = |hook: &CstNode| {
        let command = hook.as_object()?.get("command")?.value()?.as_string_lit()?;
        command.decoded_value().ok()
    };
    let hooks = group.as_object().and_then(|group| group.array_value("hooks"));
    let all = hooks.map(|hooks| hooks.elements()).unwrap_or_default();
    all.into_iter().filter_map(|hook| of(&hook).map(|command| (hook, command))).collect()
}

/// Whether Claude Code runs no hooks at all, as `disableAllHooks` in this file says. A file that cannot be read says nothing.
pub fn disables_all(text: &str) -> bool {
    says(text, "disableAllHooks")
}

/// Whether a file sets this member to `true`. A file that cannot be read says nothing.
pub fn says(text: &str, name: &str) -> bool {
    let root = parse(text.trim_start_matches(MARK)).ok();
    let object = root.and_then(|root| root.value()?.as_object());
    let value = object.and_then(|object| member(&object, name, "").ok()??);
    value.is_some_and(|value| value.to_string().trim() == "true")
}

/// The variables that Claude Code gives to what it runs, as `env` in this file says.
pub fn variables(text: &str) -> Vec<(String, String)> {
    let root = parse(text.trim_start_matches(MARK)).ok();
    let env = root.and_then(|root| root.value()?.as_object()?.get("env")?.value()?.as_object());
    let one = |prop: &CstObjectProp| {
        let value = prop.value()?.as_string_lit()?.decoded_value().ok()?;
        Some((prop.decoded_name()?, value))
    };
    env.map(|env| env.properties().iter().filter_map(one).collect()).unwrap_or_default()
}

fn names(hooks: &CstObject) -> Vec<String> {
    hooks.properties().iter().filter_map(|prop| prop.decoded_name()).collect()
}

/// Whether Claude MPM put its mark on a hook: it may run anything.
fn is_marked(hook: &CstNode) -> bool {
    let mark = hook.as_object().and_then(|hook| hook.get("_mpm")?.value());
    mark.is_some_and(|value| value.to_string().trim() == "true")
}

/// All hooks of a settings file, in order.
///
/// # Errors
/// [`SettingsError`].
pub fn entries(text: &str) -> Result<Vec<Entry>, SettingsError> {
    let root = parse(text.trim_start_matches(MARK))?;
    let Some(hooks) = hooks_of(&root)? else { return Ok(Vec::new()) };
    let mut entries = Vec::new();
    for event in names(&hooks) {
        for group in groups(&hooks, &event)?.map(|g| g.elements()).unwrap_or_default() {
            entries.extend(commands(&group).into_iter().map(|(hook, command)| Entry {
                event: event.clone(),
                owner: if is_marked(&hook) { Owner::ClaudeMpm } else { owner(&command) },
                command,
            }));
        }
    }
    Ok(entries)
}

/// The file with our hook in it, for every event of [`EVENTS`], with this command line. What of ours is in it already, for
/// whatever event, stays where it is and gets the command line.
///
/// # Errors
/// [`SettingsError`].
pub fn with_ours(text: &str, command: &str) -> Result<String, SettingsError> {
    edit(text, |root| {
        if root.value().is_none() {
            // Only comments and spaces, or nothing at all.
            root.set_value(CstInputValue::Object(Vec::new()));
        }
        hooks_of(root)?;
        let object = root.object_value_or_set();
        let is_new = object.get("hooks").is_none();
        let hooks = object.object_value_or_set("hooks");
        if is_new {
            hooks.ensure_multiline();
        }
        let mut has = Vec::new();
        // It may stand in several groups, each with a matcher of its own, and for events that we do not put it in for.
        for event in names(&hooks) {
            let all = groups(&hooks, &event)?.map(|g| g.elements()).unwrap_or_default();
            for (hook, said) in all.iter().flat_map(commands).filter(|(_, said)| owner(said) == Owner::Ours) {
                if said != command
                    && let Some(prop) = hook.as_object().and_then(|hook| hook.get("command"))
                {
                    prop.set_value(CstInputValue::String(command.to_owned()));
                }
                has.push(event.clone());
            }
        }
        for (event, matcher) in EVENTS.iter().filter(|(event, _)| !has.iter().any(|has| has == event)) {
            let found = groups(&hooks, event)?;
            let string = |text: &str| CstInputValue::String(text.to_owned());
            let hook = vec![
                ("type".to_owned(), string("command")),
                ("command".to_owned(), string(command)),
                ("timeout".to_owned(), CstInputValue::Number(TIMEOUT.to_owned())),
            ];
            let mut group = Vec::new();
            group.extend(matcher.map(|matcher| ("matcher".to_owned(), string(matcher))));
            group.push(("hooks".to_owned(), CstInputValue::Array(vec![CstInputValue::Object(hook)])));
            let group = CstInputValue::Object(group);
            match found {
                Some(groups) => drop(groups.append(group)),
                None => drop(hooks.append(event, CstInputValue::Array(vec![group]))),
            }
        }
        Ok(())
    })
}

/// The file without our hook, and without what only held it.
///
/// # Errors
/// [`SettingsError`].
pub fn without_ours(text: &str) -> Result<String, SettingsError> {
    edit(text, |root| {
        let Some(hooks) = hooks_of(root)? else { return Ok(()) };
        let mut removed = false;
        for event in names(&hooks) {
            let Some(groups) = groups(&hooks, &event)? else { continue };
            let mut emptied = false;
            for group in groups.elements() {
                let all = commands(&group);
                let ours: Vec<_> = all.iter().filter(|(_, command)| owner(command) == Owner::Ours).collect();
                if ours.is_empty() {
                    continue;
                }
                let held = group.as_object().and_then(|g| g.array_value("hooks")).map_or(0, |h| h.elements().len());
                if held == ours.len() {
                    group.remove();
                } else {
                    ours.into_iter().for_each(|(hook, _)| hook.clone().remove());
                }
                emptied = true;
            }
            if emptied
                && groups.elements().is_empty()
                && let Some(prop) = hooks.get(&event)
            {
                prop.remove();
            }
            removed |= emptied;
        }
        if removed && hooks.properties().is_empty() {
            let prop = root.object_value().and_then(|object| object.get("hooks"));
            if let Some(prop) = prop {
                prop.remove();
            }
        }
        Ok(())
    })
}

fn edit(text: &str, change: impl FnOnce(&CstRootNode) -> Result<(), SettingsError>) -> Result<String, SettingsError> {
    let bare = text.trim_start_matches(MARK);
    let root = parse(bare)?;
    change(&root)?;
    let mut changed = root.to_string();
    if bare.trim().is_empty() && root.value().is_some() && !changed.ends_with('\n') {
        changed.push('\n');
    }
    Ok(format!("{}{changed}", &text[..text.len() - bare.len()]))
}

/// What changes between two texts, line by line, with three lines around.
pub fn diff(old: &str, new: &str, name: &str) -> String {
    similar::TextDiff::from_lines(old, new).unified_diff().context_radius(3).header(name, name).to_string()
}

#[cfg(test)]
mod tests;
