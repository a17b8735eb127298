//! Secrets in arguments that only the program gives a meaning: `curl -u ann:…`, `sshpass -p …`.

use std::ops::Range;

use super::text::{closing, line_end, quote, skip};

/// What is secret of an argument.
#[derive(Clone, Copy, PartialEq)]
enum Is {
    /// All of it; it may stand right after the flag.
    Word,
    /// All of it, and only right after the flag.
    Glued,
    /// The rest of the line.
    Rest,
    /// What is behind the first of this character.
    After(char),
}

/// Words that must be in the line before, the flag, and what is secret of its argument.
const RULES: [(&[&str], &str, Is); 31] = [
    (&["curl", "wget", "http", "https"], "-u", Is::After(':')),
    (&["http", "https", "xh"], "-a", Is::After(':')),
    (&["curl"], "-U", Is::After(':')),
    (&["curl"], "-b", Is::Word),
    (&["sshpass", "mongo", "mongosh", "mongodump", "mongorestore", "bw"], "-p", Is::Word),
    (&["login"], "-p", Is::Word),
    (&["mysql", "mysqldump", "mysqladmin", "mariadb", "mariadb-dump", "7z", "7za", "unrar", "rar"], "-p", Is::Glued),
    (&["redis-cli", "influx"], "-a", Is::Word),
    (&["ldapsearch", "ldapadd", "ldapmodify", "ldapwhoami", "ldapdelete", "ldappasswd"], "-w", Is::Word),
    (&["smbclient", "rpcclient", "smbmap"], "-U", Is::After('%')),
    (
        &["mosquitto_pub", "mosquitto_sub", "sqlcmd", "zip", "unzip", "bcp", "isql", "ipmitool", "sqsh", "tsql"],
        "-P",
        Is::Word,
    ),
    (&["xfreerdp", "xfreerdp3", "mstsc", "cmdkey"], "/p:", Is::Glued),
    (&["cmdkey"], "/pass:", Is::Glued),
    (&["htpasswd"], "-b", Is::Rest),
    (&["htpasswd"], "-nb", Is::Rest),
    (&["htpasswd"], "-cb", Is::Rest),
    (&["htpasswd"], "-bc", Is::Rest),
    (&["htpasswd"], "-nbB", Is::Rest),
    (&["ssh-keygen"], "-N", Is::Word),
    (&["ssh-keygen"], "-P", Is::Word),
    (&[], "<<<", Is::Word),
    (&["snmpwalk", "snmpget", "snmpset"], "-c", Is::Word),
    (&["snmpwalk", "snmpget", "snmpset"], "-A", Is::Word),
    (&["snmpwalk", "snmpget", "snmpset"], "-X", Is::Word),
    (&["plink", "pscp", "psftp", "putty"], "-pw", Is::Word),
    (&["evil-winrm", "hydra", "rdesktop", "vncviewer"], "-p", Is::Word),
    (&["useradd", "usermod"], "-p", Is::Word),
    (&["chpasswd", "stdin"], "echo", Is::Word),
    (&[], "--user", Is::After(':')),
    (&[], "--proxy-user", Is::After(':')),
    (&[], "--auth", Is::After(':')),
];

/// Adds to `found` where arguments that hold a secret stand in the text.
pub fn find(text: &str, found: &mut Vec<Range<usize>>) {
    let mut start = 0;
    while start < text.len() {
        let end = line_end(text, start);
        let line = &text[start..end];
        let is_there = |program: &&str| {
            let mut words = line.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')));
            words.any(|w| w == *program || (*program == "stdin" && w.ends_with("stdin")))
        };
        let has_arguments =
            [" -", " /", "\"-", "'-", "<<<", "echo "].iter().any(|a| line.contains(a)) || line.starts_with('-');
        for (programs, flag, is) in RULES.into_iter().filter(|(_, flag, _)| has_arguments && line.contains(flag)) {
            if programs.is_empty() || programs.iter().any(is_there) {
                arguments(text, start..end, flag, is, found);
            }
        }
        start = end + if text[end..].starts_with('\\') { 2 } else { 1 };
    }
}

fn arguments(text: &str, line: Range<usize>, flag: &str, is: Is, found: &mut Vec<Range<usize>>) {
    for (n, _) in text[line.clone()].match_indices(flag) {
        let start = line.start + n;
        let end = start + flag.len();
        if text[line.start..start].ends_with(|c: char| !c.is_whitespace() && !matches!(c, '"' | '\'')) {
            continue;
        }
        let next = skip(text, end, |c| matches!(c, ' ' | '=' | ',') || (c == '"' && text[end..].starts_with("\",")));
        let is_glued = next == end;
        let is_fitting = match is {
            Is::Glued => is_glued,
            _ => !is_glued || !(flag.starts_with("--") || flag == "echo"),
        };
        if !is_fitting || next >= line.end {
            continue;
        }
        if is == Is::Rest {
            found.push(next..line.end);
            continue;
        }
        let (from, to) = match quote(&text[next..]) {
            Some(mark) => (next + mark.len(), closing(text, next + mark.len(), mark)),
            None => (next, skip(text, next, |c| !c.is_whitespace() && !matches!(c, '"' | '\'')).min(line.end)),
        };
        let from = match is {
            Is::After(c) => text[from..to].find(c).map_or(to, |n| from + n + 1),
            Is::Word | Is::Glued | Is::Rest => from,
        };
        if from < to {
            found.push(from..to);
        }
    }
}
