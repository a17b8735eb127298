//! Reads a command line: is it that of Claude MPM's monitor daemon, and with which settings?

/// What the daemon was started as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// `--port`.
    pub port: Option<u16>,
    /// `--host`.
    pub host: Option<String>,
}

/// The commands that Claude MPM installs and that can be its monitor.
const COMMANDS: [&str; 2] = ["claude-mpm", "claude-mpm-monitor"];

/// The invocation, if these words start Claude MPM's monitor: `python -m claude_mpm.cli monitor start ...`,
/// `python .../bin/claude-mpm monitor start ...`, `claude-mpm-monitor ...`. A session that shows the monitor beside it
/// (`claude-mpm run --monitor`) is more than a monitor, and none of these.
pub fn monitor(words: &[String]) -> Option<Invocation> {
    let rest = after_program(words)?;
    let (program, rest) = rest.split_first()?;
    let is_monitor = if program == "claude-mpm-monitor" || program.starts_with("claude_mpm.services.monitor") {
        true
    } else {
        // Options may stand before the verb.
        let mut verbs = rest.iter().skip_while(|w| *w != "monitor").skip(1);
        let at = rest.iter().position(|w| w == "monitor");
        let options_only = at.is_some_and(|at| !rest[..at].iter().any(|w| w == "run"));
        options_only && verbs.next().is_some_and(|verb| verb == "start" || verb == "restart")
    };
    let value = |name: &str| {
        let with = format!("{name}=");
        let at = rest.iter().position(|w| w == name);
        at.and_then(|at| rest.get(at + 1))
            .cloned()
            .or_else(|| Some(rest.iter().find_map(|w| w.strip_prefix(&with))?.to_owned()))
    };
    is_monitor.then(|| Invocation { port: value("--port").and_then(|p| p.parse().ok()), host: value("--host") })
}

/// The program's name, without interpreter and path, and its arguments.
fn after_program(words: &[String]) -> Option<Vec<String>> {
    let name = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    let (first, mut rest) = words.split_first()?;
    if COMMANDS.contains(&name(first).as_str()) {
        return Some(std::iter::once(name(first)).chain(rest.iter().cloned()).collect());
    }
    let interpreter = name(first).to_lowercase();
    if !["python", "pypy"].iter().any(|p| interpreter.starts_with(p)) {
        return None;
    }
    loop {
        let (word, more) = rest.split_first()?;
        match word.as_str() {
            "-m" => {
                let (module, more) = more.split_first()?;
                let ours = module == "claude_mpm" || module.starts_with("claude_mpm.");
                return ours.then(|| std::iter::once(module.clone()).chain(more.iter().cloned()).collect());
            }
            // These two take a word more.
            "-X" | "-W" => rest = more.get(1..)?,
            "-c" => return None,
            flag if flag.starts_with('-') => rest = more,
            script => {
                let script = name(script);
                let ours = COMMANDS.contains(&script.as_str());
                return ours.then(|| std::iter::once(script).chain(more.iter().cloned()).collect());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Invocation> {
        monitor(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_daemon_is_known_however_it_was_started() {
        let with = |port: u16| Some(Invocation { port: Some(port), host: Some("localhost".into()) });
        let daemon = "/v/bin/python -m claude_mpm.cli monitor start --background --port 8765 --host localhost";
        assert_eq!(read(daemon), with(8765));
        assert_eq!(read(&daemon.replace("python -m", "python3.13 -u -X dev -m")), with(8765));
        assert_eq!(read("/v/bin/python3 /v/bin/claude-mpm monitor start --port=9000 --host=localhost"), with(9000));
        assert_eq!(read("/v/bin/claude-mpm --verbose monitor start"), Some(Invocation { port: None, host: None }));
        assert!(read("/v/bin/python3 /v/bin/claude-mpm-monitor --no-browser").is_some());
        // The framework's interpreter of a Mac.
        assert!(read("/Library/Frameworks/Python -m claude_mpm.cli monitor start").is_some());
    }

    #[test]
    fn nothing_else_is_taken_for_it() {
        for line in [
            "",
            "/v/bin/python -m claude_mpm.cli monitor status",
            "/v/bin/python -m claude_mpm.cli monitor stop --port 8765",
            "/v/bin/python -m claude_mpm.cli run --monitor start",
            "/v/bin/claude-mpm run monitor start",
            "/v/bin/python -m claude_mpm.cli dashboard start",
            "/v/bin/python -m claude_mpm_fork monitor start",
            "/v/bin/python -m http.server 8765",
            "/v/bin/python -c print(1) -m claude_mpm.cli monitor start",
            "/usr/bin/vim /v/bin/claude-mpm monitor start",
            "/usr/bin/node dashboard.js --port 8765",
            "/usr/bin/python3 -m",
            "/usr/bin/python3 -X",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_command_line_makes_it_panic(words in proptest::collection::vec("[ -~]{0,12}", 0..8)) {
            let _ = monitor(&words);
        }
    }
}
