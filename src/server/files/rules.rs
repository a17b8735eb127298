//! What clients may read, as the settings say it, and what is a secret wherever it is. Pure.

use std::path::{Component, Path, PathBuf};

/// The default of `files.deny`: keys, tokens and passwords by the names under which programs keep them, what browsers and
/// shells remember, and what belongs to the monitor itself.
pub const SECRETS: &str = ".ssh, .gnupg, .aws, .azure, .kube, .docker, .password-store, .netrc, _netrc, .pgpass, \
    .my.cnf, .mylogin.cnf, .npmrc, .yarnrc.yml, .pypirc, .htpasswd, .s3cfg, .boto, .git-credentials, *.git/config*, \
    .git/modules/*/config*, .git/modules/*/*/config*, .git/worktrees/*/config*, .vault-token, .terraform.d, .terraformrc, \
    .env, .env.*, .envrc, *.env, id_rsa, id_dsa, id_ecdsa*, id_ed25519*, *.pem, *.key, *.p12, *.pfx, *.jks, *.kdbx, \
    .*_history, .zhistory, .histfile, .zsh_sessions, .bash_sessions, fish_history, PSReadLine, nushell/history*, \
    .local/share/atuin, .config/gcloud, .config/gh, .config/glab-cli, .config/hub, .config/github-copilot, \
    .config/containers/auth.json, .config/doctl, .config/rclone, .config/git/credentials, .config/op, \
    .config/mpm-monitor, .local/share/keyrings, .local/share/kwalletd, .cargo/credentials*, .gem/credentials, \
    .m2/settings*.xml, .gradle/gradle.properties, .composer/auth.json, .config/composer/auth.json, .kaggle, \
    huggingface/token, .claude.json*, .claude/.credentials.json, .codex/auth.json, .gemini/oauth_creds.json, \
    opencode/auth.json, .mozilla, .config/mozilla, .librewolf, .thunderbird, .config/google-chrome*, .config/chromium, \
    .config/BraveSoftware, .config/microsoft-edge*, .config/vivaldi, .config/opera, .var/app, snap/firefox, \
    snap/chromium, snap/brave, snap/thunderbird, Library/Keychains, Library/Cookies, Library/Safari, \
    Library/Thunderbird, Library/Application Support/Google, Library/Application Support/Firefox, \
    Library/Application Support/Chromium, Library/Application Support/BraveSoftware, \
    Library/Application Support/Microsoft Edge*, Library/Application Support/Vivaldi, \
    Library/Application Support/Arc, Library/Application Support/gcloud, Library/Application Support/mpm-monitor";

/// The settings `files.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Whether anything may be read at all.
    pub enabled: bool,
    /// Whether other users of this machine may read, too, over loopback.
    pub other_users: bool,
    /// Whether the home of the service's user is among the roots.
    pub home: bool,
    /// Whether the directories of known sessions are.
    pub sessions: bool,
    /// Further roots.
    pub roots: Vec<PathBuf>,
    /// Names that are not read, see [`Secrets`].
    pub deny: Vec<String>,
    /// The largest file that is read, bytes.
    pub max_size: u64,
    /// The git that is run, if not the system's.
    pub git: Option<PathBuf>,
}

/// What is a secret: one or several names in a row, anywhere in a path, in which `*` stands for any part of a name. Upper and
/// lower case are the same, as they are to some file systems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets(Vec<Vec<String>>);

impl Secrets {
    /// Of `files.deny`.
    pub fn new(deny: &[String]) -> Self {
        Self(deny.iter().map(|rule| rule.to_lowercase().split('/').map(str::to_owned).collect()).collect())
    }

    /// Whether a path is one, or within one.
    pub fn hold(&self, path: &Path) -> bool {
        let names = names(path);
        (0..names.len()).any(|at| self.end_with(&names[..at], &names[at]))
    }

    /// Which names in a folder, itself no secret, are secrets.
    pub fn of(&self, folder: &Path) -> SecretsOf<'_> {
        SecretsOf { secrets: self, folder: names(folder) }
    }

    /// Whether one ends with this name in a folder of these.
    fn end_with(&self, folder: &[String], name: &str) -> bool {
        self.0.iter().any(|rule| {
            let Some((last, before)) = rule.split_last() else { return false };
            fits(name, last)
                && folder
                    .len()
                    .checked_sub(before.len())
                    .is_some_and(|from| folder[from..].iter().zip(before).all(|(name, rule)| fits(name, rule)))
        })
    }
}

/// See [`Secrets::of`].
#[derive(Debug)]
pub struct SecretsOf<'a> {
    secrets: &'a Secrets,
    folder: Vec<String>,
}

impl SecretsOf<'_> {
    /// Whether this name in the folder is one.
    pub fn hold(&self, name: &str) -> bool {
        self.secrets.end_with(&self.folder, &name.to_lowercase())
    }
}

fn names(path: &Path) -> Vec<String> {
    let name = |part| match part {
        Component::Normal(name) => Some(name.to_string_lossy().to_lowercase()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

/// Whether a name is what a rule with stars says.
fn fits(name: &str, rule: &str) -> bool {
    let Some((head, rest)) = rule.split_once('*') else { return name == rule };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(tail)
}

/// Whether a directory belongs to the system: nobody works on a project there.
fn is_of_the_system(real: &Path) -> bool {
    const PLACES: [&str; 22] = [
        "bin",
        "boot",
        "dev",
        "efi",
        "etc",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "nix",
        "proc",
        "run",
        "sbin",
        "sys",
        "usr",
        "var",
        "System",
        "Library",
        "Applications",
        "cores",
        "private",
        "nonexistent",
    ];
    let mut names = real.components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    match (names.next(), names.next()) {
        (Some("var"), Some("home")) => false,
        // Where macOS keeps what other systems have in /tmp.
        (Some("private"), Some("tmp")) => names.next().is_none(),
        (Some("private"), Some("var")) => names.next() != Some("folders"),
        (Some(first), _) => PLACES.iter().any(|place| place.eq_ignore_ascii_case(first)),
        (None, _) => true,
    }
}

/// Whether the home of this process's user is one that people work in: a user of a service alone has none of its own.
pub fn is_home_of_a_person(real: &Path, owner: u32, user: u32) -> bool {
    owner == user && !is_of_the_system(real)
}

/// Whether the directory in which a session says that it runs may be read. Whoever can post an event names it, so it must be
/// the service's own user's, not all of a home or of a disk, and not the system's.
pub fn is_of_a_session(real: &Path, owner: u32, user: u32, home: Option<&Path>) -> bool {
    owner == user
        && real.components().count() > 2
        && !is_of_the_system(real)
        && home.is_none_or(|home| !home.starts_with(real))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(path: &str) -> bool {
        let deny: Vec<String> = SECRETS.split(',').map(|n| n.trim().to_owned()).collect();
        Secrets::new(&deny).hold(Path::new(path))
    }

    #[test]
    fn secrets_are_known_by_their_names_anywhere_and_in_any_case() {
        for path in [
            "/home/u/.ssh/id_ed25519",
            "/home/u/.ssh",
            "/data/backup/u/.SSH/config",
            "/home/u/.config/mpm-monitor/token",
            "/home/u/.Config/GH/hosts.yml",
            "/home/u/p/.env",
            "/home/u/p/.env.local",
            "/home/u/.bash_history",
            "/home/u/.claude/.credentials.json",
            "/home/u/.claude.json.backup",
            "/home/u/.cargo/credentials.toml",
            "/home/u/p/.git/config",
            "/home/u/p/.git/config.worktree",
            "/home/u/p/.git/modules/lib/config",
            "/home/u/p/.git/modules/vendor/lib/config",
            "/home/u/p/.git/worktrees/w/config.worktree",
            "/home/u/mirror.git/config",
            "/home/u/p/.envrc",
            "/home/u/p/production.env",
            "/home/u/backup/id_ed25519",
            "/home/u/p/tls/server.key",
            "/home/u/.local/share/fish/fish_history",
            "/home/u/.zhistory",
            "/home/u/.zsh_sessions/1.history",
            "/home/u/.config/mozilla/firefox/p/logins.json",
            "/home/u/.var/app/com.google.Chrome/config/google-chrome/Default/Preferences",
            "/home/u/.config/github-copilot/apps.json",
            "/home/u/.cache/huggingface/token",
            "/Users/u/Library/Application Support/Firefox/Profiles/x/logins.json",
        ] {
            assert!(secret(path), "{path}");
        }
        for path in [
            "/home/u/p/ssh",
            "/home/u/p/.sshd",
            "/home/u/.config/nvim/init.lua",
            "/home/u/.claude/settings.json",
            "/home/u/p/.environment",
            "/home/u/p/environment.md",
            "/home/u/p/.gitignore",
            "/home/u/p/.git/HEAD",
            "/home/u/p/config",
            "/home/u/p/keys.rs",
            "/home/u/p/modules/lib/config",
            "/home/u/history",
            "/",
        ] {
            assert!(!secret(path), "{path}");
        }
    }

    #[test]
    fn what_is_secret_in_a_folder_is_what_is_secret_by_its_whole_path() {
        let deny = [".ssh", ".config/gh", "a/*/c", "*.key"].map(str::to_owned);
        let secrets = Secrets::new(&deny);
        for (folder, name, secret) in [
            ("/home/u", ".SSH", true),
            ("/home/u/.config", "gh", true),
            ("/home/u", "gh", false),
            ("/", "gh", false),
            ("/a/b", "C", true),
            ("/b", "c", false),
            ("/", "x.key", true),
        ] {
            assert_eq!(secrets.of(Path::new(folder)).hold(name), secret, "{folder} {name}");
            assert_eq!(secrets.hold(&Path::new(folder).join(name)), secret, "{folder} {name}");
        }
    }

    #[test]
    fn stars_stand_for_any_part() {
        for (name, rule, good) in [
            ("abc", "*", true),
            ("abc", "a*", true),
            ("abc", "*c", true),
            ("abc", "a*c", true),
            ("abc", "a*b*c", true),
            ("ac", "a*b*c", false),
            ("abab", "a*ab", true),
            ("ab", "ab*ab", false),
            ("a", "a*a", false),
            ("", "*", true),
        ] {
            assert_eq!(fits(name, rule), good, "{name} {rule}");
        }
    }

    #[test]
    fn sessions_and_homes_are_ours_and_not_the_systems() {
        let home = Some(Path::new("/home/u"));
        let session = |path: &str| is_of_a_session(Path::new(path), 1000, 1000, home);
        assert!(session("/srv/project") && session("/home/u/project") && session("/var/home/u/x") && session("/tmp/x"));
        assert!(session("/private/tmp/x") && session("/private/var/folders/ab/T/x") && !session("/private/tmp"));
        for path in
            ["/", "/home", "/home/u", "/srv", "/tmp", "/etc/mpm", "/usr/src/x", "/var/lib/x", "/proc/1/cwd", "/dev/shm"]
        {
            assert!(!session(path), "{path}");
        }
        assert!(!is_of_a_session(Path::new("/srv/project"), 0, 1000, home), "it is root's");
        assert!(is_home_of_a_person(Path::new("/home/u"), 1000, 1000));
        assert!(is_home_of_a_person(Path::new("/root"), 0, 0));
        for (path, owner) in [("/", 999), ("/var/lib/mpm-monitor", 999), ("/home/u", 1000), ("/nonexistent", 999)] {
            assert!(!is_home_of_a_person(Path::new(path), owner, 999), "{path}");
        }
    }
}
