//! Homebrew runs its own copies of services (`brew services`). Two copies on one port would fight over it, so that `install`
//! refuses beside one, and `status` says what such a copy lacks.

use std::path::{Path, PathBuf};

use super::failed;
use super::service::Context;
use daemon::dirs::UserDirs;
use daemon::exit::Exit;
use service::launchd::render::port_of;
use service::{Kind, files};

/// What Homebrew calls the job of the formula: since 2026 the second, before the first; both are looked for.
const LABELS: [&str; 2] = ["homebrew.mxcl.mpm-monitor", "sh.brew.mpm-monitor"];

/// Where Homebrew puts its definitions, for the user's services and for those of root.
fn candidates(kind: Kind, home: &Path, config_home: &Path) -> Vec<PathBuf> {
    match kind {
        Kind::Launchd => [home.join("Library/LaunchAgents"), "/Library/LaunchDaemons".into()]
            .iter()
            .flat_map(|dir| LABELS.map(|label| dir.join(format!("{label}.plist"))))
            .collect(),
        Kind::Systemd => [config_home.join("systemd/user"), "/usr/lib/systemd/system".into()]
            .iter()
            .flat_map(|dir| ["homebrew.mpm-monitor", "sh.brew.mpm-monitor"].map(|n| dir.join(format!("{n}.service"))))
            .collect(),
    }
}

/// The definition of a copy that Homebrew runs on this port, if there is one.
pub fn copy(kind: Kind, port: u16) -> Option<PathBuf> {
    let user = UserDirs::find(crate::build::PROGRAM.name)?;
    candidates(kind, &user.home, &user.config_home).into_iter().find(|path| {
        let Ok(Some(text)) = files::read(path) else { return false };
        // An unreadable definition counts: better a refusal too many than two copies.
        port_in(&text, kind).is_none_or(|p| p == port)
    })
}

/// The port that a definition makes the program serve; the usual one where it names none.
fn port_in(text: &str, kind: Kind) -> Option<u16> {
    if kind == Kind::Launchd {
        return port_of(&crate::app::APP, text);
    }
    let line = text.lines().find_map(|l| l.strip_prefix("ExecStart="))?;
    let mut words = line.split_whitespace().map(|w| w.trim_matches('"')).skip_while(|w| *w != "--port");
    words.nth(1).map_or(Some(crate::config::settings::DEFAULT_PORT), |p| p.parse().ok())
}

/// Fails where Homebrew runs a copy on the port already.
///
/// # Errors
/// [`Exit::Refused`] with what to type.
pub fn refuse(context: &Context) -> anyhow::Result<()> {
    let Some(path) = copy(context.paths.kind, context.port) else { return Ok(()) };
    Err(failed(
        Exit::Refused,
        format!(
            "Homebrew runs a copy on port {port} ({path}), and two would fight over it: `brew services stop mpm-monitor` \
             first, or keep that one (`brew services restart mpm-monitor`), or choose another port with --port",
            port = context.port,
            path = path.display()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_and_the_port() {
        let all = candidates(Kind::Launchd, Path::new("/Users/a"), Path::new("/x"));
        assert!(all.contains(&"/Users/a/Library/LaunchAgents/homebrew.mxcl.mpm-monitor.plist".into()));
        assert!(all.contains(&"/Library/LaunchDaemons/sh.brew.mpm-monitor.plist".into()));
        let all = candidates(Kind::Systemd, Path::new("/x"), Path::new("/home/a/.config"));
        assert!(all.contains(&"/home/a/.config/systemd/user/homebrew.mpm-monitor.service".into()));
        let unit = |exec: &str| port_in(&format!("[Service]\nExecStart={exec}\n"), Kind::Systemd);
        assert_eq!(unit("\"/opt/bin/mpm-monitor\" \"run\""), Some(8765));
        assert_eq!(unit("\"/opt/bin/mpm-monitor\" \"run\" \"--port\" \"9000\""), Some(9000));
        assert_eq!(port_in("", Kind::Systemd), None);
    }
}
