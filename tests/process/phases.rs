//! `kill -9` in each phase of a life, as the manager sees the phases: what it leaves, the next start must not stumble over.

use std::time::{Duration, Instant};

use testkit::command::Running;
use testkit::daemon::{Place, SOON, ready, signal};
use testkit::notify::NotifySocket;
use testkit::{figure, how_many, http};

/// Where a life is cut off. In the first two the moment is random; the others begin with a word to the manager.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Somewhere between its start and the time that a start takes.
    Starting,
    /// Since it listens, and not yet ready.
    Listening,
    /// READY=1 has come.
    Ready,
    /// RELOADING=1 has come.
    Reloading,
    /// STOPPING=1 has come.
    Stopping,
}

const PHASES: [Phase; 5] = [Phase::Starting, Phase::Listening, Phase::Ready, Phase::Reloading, Phase::Stopping];

struct Victim {
    place: Place,
    port: u16,
    socket: NotifySocket,
}

impl Victim {
    fn new() -> Self {
        let place = Place::new();
        let socket = NotifySocket::in_directory(place.as_ref());
        Self { place, port: http::free_port(), socket }
    }

    fn start(&self) -> Running {
        while self.socket.next(Duration::from_millis(1)).is_some() {}
        let unix = format!("server.unix_socket={}", self.place.path("http.sock").display());
        let mut command = self.place.command(["run", "--port", &self.port.to_string(), "--set", &unix]);
        Running::start(command.env("NOTIFY_SOCKET", &self.socket.name))
    }

    fn told(&self, name: &str) {
        self.socket.until(SOON, name, |m| m.says(name));
    }

    /// Brings a new process into the phase.
    fn reach(&self, phase: Phase, whole_start: Duration, part: u32) -> Running {
        let daemon = self.start();
        match phase {
            // When it is killed is the point of it; what it has done by then is left to chance.
            Phase::Starting => std::thread::sleep(whole_start * part / 100),
            Phase::Listening => {
                let began = Instant::now();
                while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
                    assert!(began.elapsed() < SOON, "it never listened");
                }
            }
            Phase::Ready => self.told("READY"),
            Phase::Reloading | Phase::Stopping => {
                self.told("READY");
                let reload = matches!(phase, Phase::Reloading);
                signal(daemon.pid(), if reload { "HUP" } else { "TERM" });
                self.told(if reload { "RELOADING" } else { "STOPPING" });
            }
        }
        daemon
    }
}

/// Promise P2, and pains 7 and 8: neither the lock file nor the Unix socket nor half a ledger is in the way of the next.
#[test]
fn killed_in_every_phase_it_starts_again_without_a_hand() {
    // Two a round: the one that is cut off in a phase, and the one that proves that it can start.
    let rounds = how_many("MPM_MONITOR_PHASE_KILLS", 40) / 2;
    let victim = Victim::new();
    let began = Instant::now();
    let mut whole = victim.start();
    victim.told("READY");
    let whole_start = began.elapsed();
    signal(whole.pid(), "KILL");
    whole.end(SOON);

    let mut already_ended = 0;
    for round in 0..rounds {
        let phase = PHASES[round % PHASES.len()];
        let part = u32::try_from(round * 37 % 100).unwrap();
        let mut daemon = victim.reach(phase, whole_start, part);
        signal_if_there(daemon.pid());
        let code = daemon.end(SOON);
        // One that was told to stop may be faster than the kill.
        let orderly = matches!(phase, Phase::Stopping) && code == 0;
        already_ended += usize::from(orderly);
        assert!(code == -9 || orderly, "{phase:?} ended with {code}: {:?}", daemon.seen);

        let mut next = victim.start();
        ready(victim.port, next.pid());
        assert_eq!(http::post_event(victim.port, &format!("after {phase:?}")).unwrap().status, 204);
        std::os::unix::net::UnixStream::connect(victim.place.path("http.sock")).expect("the Unix socket serves");
        signal(next.pid(), "KILL");
        assert_eq!(next.end(SOON), -9, "{:?}", next.seen);
    }
    let mut last = victim.start();
    ready(victim.port, last.pid());
    let events = http::get(victim.port, "/api/events?after=0&limit=1000").unwrap().json();
    assert_eq!(events["events"].as_array().unwrap().len(), rounds, "accepted and lost");
    signal(last.pid(), "TERM");
    assert_eq!(last.end(SOON), 0, "{:?}", last.seen);
    figure("kills_in_every_phase", rounds * 2 - already_ended, "kills");
    figure("kills_in_every_phase_starts_that_failed", 0, "starts");
}

/// `kill -9`, if it is not gone by itself.
fn signal_if_there(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // Not waited for yet, so that the number is still its own.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}
