//! Which monitor to speak to, how to be let in, and where events wait that it cannot take: flags, then the environment, then
//! the configuration, then whichever instance runs.
//!
//! Hooks find this out anew each time, so it costs a few looks at files; a configuration that is wrong is no reason to fail.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::keys::Value;
use crate::config::layers::{self, Merged};
use crate::config::settings::{DEFAULT_PORT, PortChoice};
use daemon::dirs::UserDirs;
use daemon::guarded::Guard;
use daemon::lock;
use daemon::probe::Target;

/// The longest token that is read.
const TOKEN: usize = 4096;

/// What the command line says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// The monitor's host.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// Its Unix socket, in place of both.
    pub unix_socket: Option<PathBuf>,
    /// A file with its token.
    pub token_file: Option<PathBuf>,
}

/// What the place is made of.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// The environment.
    pub variables: Vec<(String, String)>,
    /// The machine's configuration file.
    pub system_config: PathBuf,
    /// The user's directories, if the user has a home.
    pub user: Option<UserDirs>,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        Self {
            variables: crate::config::variables(),
            system_config: PathBuf::from("/etc/mpm-monitor/config.toml"),
            user: UserDirs::find(crate::build::PROGRAM.name),
        }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// What files and environment set; what is wrong with them is `config check`'s to tell.
    fn settings(&self) -> Merged {
        let own = self.variable("MPM_MONITOR_CONFIG").map(PathBuf::from);
        let own = own.or_else(|| self.user.as_ref().map(|user| user.config.join("config.toml")));
        let files = [Some(self.system_config.clone()), own].into_iter().flatten().filter_map(|path| {
            let text = Guard::WRITTEN.text(&path).ok().flatten()?;
            Some(layers::from_toml(&path, &text))
        });
        layers::merge(files.chain([layers::from_environment(&self.variables)]).collect())
    }
}

/// Where a monitor is, and how to speak to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where to try, in this order.
    pub targets: Vec<Target>,
    /// A host that is known by its name only, with the port; looked up when it is needed.
    pub named: Option<(String, u16)>,
    /// What the request calls the host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The token that the settings name.
    pub token: Option<String>,
    /// Where events wait; nothing for a user without a home.
    pub spool: Option<PathBuf>,
}

impl Place {
    /// Finds it.
    pub fn find(said: &Said, machine: &Machine) -> Self {
        let merged = machine.settings();
        let set = |name: &str| merged.values.get(name).map(|(value, _)| value);
        let port_of = |name: &str| machine.variable(name).and_then(|v| v.parse::<u16>().ok()).filter(|p| *p > 0);
        let is_ours = machine.variable("MPM_MONITOR_PORT").is_some();
        let settled = match set("port") {
            Some(Value::Port(PortChoice::Fixed(port))) => Some(*port),
            _ => None,
        };
        let theirs = || port_of("CLAUDE_MPM_SERVER_PORT").or_else(|| port_of("CLAUDE_MPM_SOCKETIO_PORT"));
        let named = said.port.or(settled.filter(|_| is_ours)).or_else(theirs);
        let host = said.host.clone().or_else(|| machine.variable("CLAUDE_MPM_SERVER_HOST").map(str::to_owned));
        let runtime = match set("runtime_dir") {
            Some(Value::Path(path)) => Some(path.clone()),
            _ => machine.user.as_ref().map(|user| user.runtime.clone()),
        };
        let port = named.or(settled).or_else(|| running(runtime.as_deref()?)).unwrap_or(DEFAULT_PORT);

        let configured = match set("server.unix_socket") {
            // An address on the command line or in the environment means that address.
            Some(Value::Path(path)) if named.is_none() && host.is_none() => Some(path.clone()),
            _ => None,
        };
        let mut targets: Vec<Target> =
            said.unix_socket.clone().or(configured).map(|path| Target::from(&*path)).into_iter().collect();
        let mut by_name = None;
        if said.unix_socket.is_none() {
            match host.as_deref().map(|h| (h, h.trim_matches(['[', ']']).parse::<IpAddr>())) {
                Some((_, Ok(ip))) => targets.push(SocketAddr::new(ip, port).into()),
                Some((name, Err(_))) if !name.eq_ignore_ascii_case("localhost") => {
                    by_name = Some((name.to_owned(), port));
                }
                _ => {
                    let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
                    let bind = match set("bind") {
                        Some(Value::Addresses(bind)) if host.is_none() => bind.clone(),
                        _ => both.to_vec(),
                    };
                    targets.extend(bind.into_iter().map(|ip| Target::from(SocketAddr::new(ip, port))));
                }
            }
        }
        let called = match &host {
            Some(host) if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
            Some(host) => format!("{host}:{port}"),
            None => format!("localhost:{port}"),
        };
        let token_file = said.token_file.clone().or_else(|| match set("access.token_file") {
            Some(Value::Path(path)) => Some(path.clone()),
            _ => None,
        });
        let state = match set("state_dir") {
            // One that belongs to somebody else, such as the machine's, is not for us to put anything into.
            Some(Value::Path(path)) if may_write(path) => Some(path.clone()),
            _ => machine.user.as_ref().map(|user| user.state.clone()),
        };
        let name = spool_name(host.as_deref(), port);
        Self {
            targets,
            named: by_name,
            host: called,
            port,
            token: token_file.as_deref().and_then(token),
            spool: state.map(|state| state.join("spool").join(name)),
        }
    }

    /// Where to try, the host's name looked up within `timeout`.
    pub fn resolve(&self, timeout: Duration) -> Vec<Target> {
        let mut targets = self.targets.clone();
        if let Some((name, port)) = self.named.clone() {
            let (send, found) = std::sync::mpsc::channel();
            // The resolver knows no deadline; who waits for it does.
            let lookup = move || {
                let _ = send.send((name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>));
            };
            if std::thread::Builder::new().name("resolver".into()).spawn(lookup).is_ok()
                && let Ok(Ok(addresses)) = found.recv_timeout(timeout)
            {
                targets.extend(addresses.into_iter().map(Target::from));
            }
        }
        targets
    }

    /// The monitor's address for people.
    pub fn url(&self) -> String {
        match self.targets.first() {
            Some(Target::Path(path)) => path.display().to_string(),
            _ => format!("http://{}", self.host),
        }
    }
}

/// The folder of the spool for the monitor at this address; a daemon looks into that of its own port.
pub fn spool_name(host: Option<&str>, port: u16) -> String {
    let is_local = |host: &str| {
        host.eq_ignore_ascii_case("localhost")
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    };
    match host {
        Some(host) if !is_local(host) => {
            let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
            format!("{}_{port}", host.chars().take(100).map(safe).collect::<String>())
        }
        _ => port.to_string(),
    }
}

/// The port of a running instance, where none is named: the usual one if it runs, else the lowest.
fn running(dir: &Path) -> Option<u16> {
    if lock::path_of(dir, DEFAULT_PORT).exists() {
        return Some(DEFAULT_PORT);
    }
    let entries = std::fs::read_dir(dir).ok()?.flatten().map(|e| e.path());
    let locks = entries.filter(|p| p.extension().is_some_and(|x| x == "lock") && lock::is_held(p) == Some(true));
    locks.filter_map(|p| p.file_stem()?.to_str()?.parse().ok()).min()
}

fn may_write(state: &Path) -> bool {
    match std::fs::metadata(state) {
        Ok(meta) => meta.uid() == rustix::process::geteuid().as_raw(),
        // Nobody's yet.
        Err(error) => error.kind() == std::io::ErrorKind::NotFound && state.parent().is_some_and(may_write),
    }
}

/// The text of a token file, if it is one that can be sent.
fn token(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    Guard::linked(TOKEN as u64).open(path).ok()?.take(TOKEN as u64 + 2).read_to_string(&mut text).ok()?;
    let text = text.trim_end_matches(['\n', '\r']);
    (!text.is_empty() && text.len() <= TOKEN && text.bytes().all(|b| b.is_ascii_graphic())).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        dir: tempfile::TempDir,
        machine: Machine,
    }

    impl World {
        fn new(variables: &[(&str, &str)], config: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            let user = UserDirs {
                home: at("home"),
                config_home: at("home/.config"),
                config: at("config"),
                state: at("state"),
                runtime: at("run"),
            };
            for sub in ["config", "state", "run"] {
                std::fs::create_dir(at(sub)).unwrap();
            }
            std::fs::write(at("config/config.toml"), config).unwrap();
            let variables = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            let machine = Machine { variables, system_config: at("none"), user: Some(user) };
            Self { dir, machine }
        }

        fn find(&self, said: &Said) -> Place {
            Place::find(said, &self.machine)
        }
    }

    fn shown(place: &Place) -> Vec<String> {
        place.targets.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_said_means_this_machine_and_the_usual_port() {
        let world = World::new(&[], "");
        let place = world.find(&Said::default());
        assert_eq!(shown(&place), ["127.0.0.1:8765", "[::1]:8765"]);
        assert_eq!((&*place.host, &place.token), ("localhost:8765", &None));
        assert_eq!(place.spool.unwrap(), world.dir.path().join("state/spool/8765"));
    }

    #[test]
    fn flags_come_before_the_environment_before_the_configuration_before_what_runs() {
        let mut world = World::new(&[], "");
        let identity = daemon::identity::Identity::new().unwrap();
        let run = world.dir.path().join("run");
        let mut held = lock::InstanceLock::take(&crate::build::PROGRAM, &run, 8770).unwrap();
        held.describe(8770, Vec::new(), &identity).unwrap();
        std::fs::write(run.join("8769.lock"), "left by a process that was killed").unwrap();
        assert_eq!(world.find(&Said::default()).port, 8770);
        std::fs::write(world.dir.path().join("config/config.toml"), "port = 1\nbind = [\"127.0.0.1\"]\n").unwrap();
        assert_eq!(shown(&world.find(&Said::default())), ["127.0.0.1:1"]);
        for (name, port) in [("CLAUDE_MPM_SOCKETIO_PORT", 2), ("CLAUDE_MPM_SERVER_PORT", 3), ("MPM_MONITOR_PORT", 4)] {
            world.machine.variables.push((name.into(), port.to_string()));
            assert_eq!(world.find(&Said::default()).port, port, "{name}");
        }
        let said = Said { port: Some(5), ..Said::default() };
        assert_eq!(world.find(&said).port, 5);
    }

    #[test]
    fn hosts_are_addresses_names_or_this_machine() {
        let world = World::new(&[("CLAUDE_MPM_SERVER_HOST", "LOCALHOST")], "");
        assert_eq!(shown(&world.find(&Said::default())).len(), 2);
        let at = |host: &str| world.find(&Said { host: Some(host.to_owned()), ..Said::default() });
        assert_eq!((shown(&at("::1")), at("::1").host), (vec!["[::1]:8765".into()], "[::1]:8765".into()));
        let far = at("build.example");
        assert_eq!((far.named.clone(), shown(&far)), (Some(("build.example".into(), 8765)), vec![]));
        assert!(far.spool.unwrap().ends_with("spool/build.example_8765"));
        assert!(at("127.0.0.1").spool.unwrap().ends_with("spool/8765"));
        assert!(at("../../x").spool.unwrap().ends_with("spool/.._.._x_8765"));
    }

    #[test]
    fn a_unix_socket_goes_first_unless_an_address_is_named() {
        let world = World::new(&[], "[server]\nunix_socket = \"/run/m.sock\"\n");
        assert_eq!(shown(&world.find(&Said::default()))[0], "/run/m.sock");
        let port = Said { port: Some(9), ..Said::default() };
        assert_eq!(shown(&world.find(&port)), ["127.0.0.1:9", "[::1]:9"]);
        let path = Said { unix_socket: Some("/x".into()), ..Said::default() };
        assert_eq!(shown(&world.find(&path)), ["/x"]);
    }

    #[test]
    fn a_token_is_read_and_a_broken_configuration_does_no_harm() {
        let world = World::new(&[], "");
        let file = world.dir.path().join("token");
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        let config = format!("port = \"x\"\nnothing = 1\n[access]\ntoken_file = \"{}\"\n", file.display());
        std::fs::write(world.dir.path().join("config/config.toml"), config).unwrap();
        let place = world.find(&Said::default());
        assert_eq!((place.token.as_deref(), place.port), (Some("0123456789abcdef"), 8765));
        std::fs::write(&file, "two\nlines").unwrap();
        assert_eq!(world.find(&Said::default()).token, None);
        std::fs::write(world.dir.path().join("config/config.toml"), "= broken").unwrap();
        assert_eq!(world.find(&Said::default()).port, 8765);
    }
}
