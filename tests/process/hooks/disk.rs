//! The hook on file systems that are really full, out of inodes, or read-only: small ones of memory, in a mount namespace.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use mpm_monitor::hooks::spool::{Spool, Waiting};
use serde_json::Value;

use super::session::{DEADLINE, Hooked, all_steps, call, expected, fed, inputs, steps, stored, subtypes, wait_for};
use testkit::command::{Ran, Running, run};
use testkit::daemon::{Place, SOON, ready};
use testkit::{eventually, figure, http, percentile, skip};

/// A place whose state folder is a file system of its own, for those that enter its namespace.
struct Disk {
    place: Place,
    holder: Running,
    port: u16,
}

impl Disk {
    /// With these options of tmpfs(5); `None`, with the reason printed, where nobody can mount.
    fn new(options: &str) -> Option<Self> {
        Self::mounted(&format!("mount -t tmpfs -o {options} tmpfs \"$STATE\" && echo mounted; exec cat"))
    }

    /// One that is frozen by the first line it is told and thaws by the second, and in any case after a while, as every write
    /// to it hangs in the kernel.
    fn that_freezes() -> Option<Self> {
        if !is_root() {
            skip("only root can freeze a file system");
            return None;
        }
        Self::mounted(
            "image=$STATE.image; truncate -s 16M \"$image\" && mkfs.ext4 -q -F \"$image\" && mount -o loop \"$image\" \"$STATE\" \
             && echo mounted; read _; fsfreeze -f \"$STATE\" && echo frozen; read -t 8 _; fsfreeze -u \"$STATE\"; echo thawed; cat",
        )
    }

    fn mounted(script: &str) -> Option<Self> {
        let place = Place::new();
        let mut unshare = Command::new("unshare");
        unshare.args(if is_root() { &["--mount"][..] } else { &["--user", "--map-root-user", "--mount"] });
        let mut holder = Running::start(unshare.args(["bash", "-c", script]).env("STATE", state(&place)));
        if !holder.until(SOON, "the file system", |line| Some(line == "mounted")) {
            skip(&format!("this machine lets nobody mount a file system: {:?}", holder.seen));
            return None;
        }
        Some(Self { place, holder, port: http::free_port() })
    }

    /// A command where the file system is.
    fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.args(["--mount", "--target", &self.holder.pid().to_string()]);
        if !is_root() {
            inside.args(["--user", "--preserve-credentials"]);
        }
        inside.arg("--").arg(command.get_program()).args(command.get_args());
        inside.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside
    }

    fn sh(&self, script: &str) -> Ran {
        let mut sh = Command::new("sh");
        sh.args(["-c", script]).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        sh.env("STATE", state(&self.place));
        run(&mut self.inside(&sh), SOON)
    }

    /// Takes all the room that is left, or all inodes.
    fn fill(&self, with: &str) {
        let filled = self.sh(match with {
            "bytes" => "cat /dev/zero > $STATE/ballast",
            _ => "mkdir $STATE/ballast; n=0; while : 2> /dev/null > $STATE/ballast/$n; do n=$((n + 1)); done",
        });
        assert!(filled.stderr.contains("No space left") || with == "inodes", "{filled}");
    }

    fn make_room(&self) {
        self.sh("rm -r $STATE/ballast").ok();
    }

    /// The options that it has say a user's number, which that user's namespace does not know: they stay as they are.
    #[track_caller]
    fn remount(&self, options: &str) {
        self.sh(&format!("mount --options-mode ignore -o remount,{options} $STATE")).ok();
    }

    /// The hook as Claude Code runs it, with the deadline that it has by itself.
    #[track_caller]
    fn hook(&self, input: &Value) -> Hooked {
        let mut command = super::session::command(&self.place, self.port, &[]);
        command.env_remove("MPM_MONITOR_HOOK_DEADLINE");
        fed(&mut self.inside(&command), input.to_string().as_bytes()).unnoticed(mpm_monitor::hooks::run::DEADLINE)
    }

    /// What waits, seen from outside.
    fn waiting(&self) -> Waiting {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.pid()));
        let spool = state(&self.place).join(format!("spool/{}", self.port));
        Spool::new(root.join(spool.strip_prefix("/").unwrap())).waiting()
    }

    fn status(&self) -> Value {
        let mut command = self.place.command(["hooks", "status", "--json"]);
        command.env("MPM_MONITOR_PORT", self.port.to_string());
        run(&mut self.inside(&command), SOON).expect(6).json()
    }

    /// The monitor whose state is there, too.
    fn serve(&self) -> Running {
        let daemon = Running::start(&mut self.inside(&self.place.command(["run", "--port", &self.port.to_string()])));
        ready(self.port, daemon.pid());
        daemon
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Not by a kill: nothing frozen stays behind.
        self.holder.end(SOON);
    }
}

fn state(place: &Place) -> PathBuf {
    place.path("state")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Those of a session's events that came are in its order, and the first ones are all there.
#[track_caller]
fn in_order(events: &[Value], calls: usize, first: usize) {
    let (came, all) = (subtypes(events), expected(calls));
    assert_eq!(came[..first], all[..first]);
    let mut rest = all.iter();
    assert!(came.iter().all(|one| rest.any(|other| other == one)), "{came:?}");
    let steps = steps(events);
    assert!(steps.is_sorted() && steps.windows(2).all(|pair| pair[0] != pair[1]), "{steps:?}");
}

#[test]
fn a_disk_without_room_costs_what_finds_none_and_nothing_that_waits() {
    const CALLS: usize = 20;
    // With all inodes gone what is there can still grow: none is lost.
    for (options, with) in [("size=24m", "bytes"), ("size=24m,nr_inodes=64", "inodes")] {
        let Some(disk) = Disk::new(options) else { return };
        let all = inputs("full", CALLS);
        let (before, after) = all.split_at(8);
        before.iter().for_each(|input| drop(disk.hook(input)));
        let whole = disk.waiting();
        disk.fill(with);
        let mut took: Vec<Duration> = Vec::new();
        for input in after {
            let ran = disk.hook(input);
            assert!(ran.stderr.contains("kept") || ran.stderr.contains("No space left"), "{ran:?}");
            took.push(ran.took);
        }
        let full = disk.waiting();
        assert_eq!(full.events + full.dropped, expected(CALLS).len() as u64, "each is kept or counted: {full:?}");
        assert_eq!(full.dropped > 0, with == "bytes", "{full:?}");
        let problems = disk.status()["problems"].to_string();
        assert!(problems.contains("no room"), "{problems}");
        assert_eq!(problems.contains(&format!("{} events found no room", full.dropped)), with == "bytes", "{problems}");
        disk.make_room();
        let _monitor = disk.serve();
        in_order(&wait_for(disk.port, "full", full.events as usize), CALLS, whole.events as usize);
        disk.hook(&call("full", CALLS)[0]);
        wait_for(disk.port, "full", full.events as usize + 1);
        figure(
            &format!("hook_disk_without_{with}_lost"),
            full.dropped,
            &format!("of {} events", expected(CALLS).len()),
        );
        figure(&format!("hook_disk_without_{with}_longest"), percentile(&mut took, 100), "ms (unoptimised build)");
    }
}

/// The daemon of another user does not look into this user's folders: then hooks deliver, and nothing needs room for that.
#[test]
fn hooks_deliver_from_a_disk_without_room_and_lose_nothing_more() {
    for (options, with) in [("size=24m", "bytes"), ("size=24m,nr_inodes=64", "inodes")] {
        let Some(disk) = Disk::new(options) else { return };
        let deliver = |input: &Value| {
            let command = super::session::command(&disk.place, disk.port, &[]);
            fed(&mut disk.inside(&command), input.to_string().as_bytes()).unnoticed(DEADLINE)
        };
        disk.hook(&call("away", 0)[0]);
        disk.fill(with);
        let mut kept = 1;
        for input in (0..20).flat_map(|step| call("away", step)).skip(1) {
            if !disk.hook(&input).stderr.contains("kept") {
                break;
            }
            kept += 1;
        }
        let full = disk.waiting();
        assert_eq!(full.events, kept, "{full:?}");
        let other = Place::new();
        let _monitor = other.serve(disk.port);
        let rest: Vec<Value> = (20..24).flat_map(|step| call("away", step)).collect();
        for input in &rest {
            let ran = deliver(input);
            assert!(!ran.stderr.contains("lost"), "{ran:?}");
        }
        let events = wait_for(disk.port, "away", kept as usize + rest.len());
        assert!(steps(&events).is_sorted(), "{:?}", steps(&events));
        assert_eq!(disk.waiting(), Waiting { dropped: full.dropped, ..Waiting::default() });
    }
}

#[test]
fn a_read_only_disk_costs_nothing_that_a_monitor_takes() {
    let Some(disk) = Disk::new("size=24m") else { return };
    let waited: Vec<Value> = (0..3).flat_map(|step| call("closed", step)).collect();
    waited.iter().for_each(|input| drop(disk.hook(input)));
    disk.remount("ro");
    let ran = disk.hook(&call("closed", 3)[0]);
    assert!(ran.stderr.contains("lost") && ran.stderr.contains("Read-only file system"), "{ran:?}");
    let problems = disk.status()["problems"].to_string();
    assert!(problems.contains("Read-only file system"), "{problems}");
    let other = Place::new();
    let monitor = other.serve(disk.port);
    // What waits cannot be noted as done, and so it is not sent; what comes does not wait for that.
    let ran = disk.hook(&call("closed", 4)[0]);
    assert!(ran.stderr.contains("posted"), "{ran:?}");
    assert_eq!(steps(&wait_for(disk.port, "closed", 1)), [(4, false)]);
    disk.remount("rw");
    drop(monitor);
    let _monitor = disk.serve();
    assert_eq!(steps(&wait_for(disk.port, "closed", waited.len())), all_steps(3));
}

/// As when a disk was full before the first event: nothing can be kept, nothing is harmed, and `status` says why.
#[test]
fn without_any_room_from_the_start_hooks_do_no_harm() {
    for (options, with) in [("size=1m", "bytes"), ("size=1m,nr_inodes=16", "inodes")] {
        let Some(disk) = Disk::new(options) else { return };
        disk.fill(with);
        for input in inputs("never", 2) {
            let ran = disk.hook(&input);
            assert!(ran.stderr.contains("lost") && ran.stderr.contains("No space left"), "{ran:?}");
        }
        let problems = disk.status()["problems"].to_string();
        assert!(problems.contains("no room"), "{problems}");
        disk.make_room();
        disk.hook(&call("never", 0)[0]);
        assert_eq!(disk.waiting().events, 1);
    }
}

/// A write to a disk that hangs cannot be broken off, not even by SIGKILL, and a process ends when its last thread does.
#[test]
fn a_disk_that_hangs_delays_nobody() {
    let Some(mut disk) = Disk::that_freezes() else { return };
    disk.hook(&call("frozen", 0)[0]);
    disk.holder.say("freeze");
    disk.holder.until(SOON, "a frozen disk", |line| (line == "frozen").then_some(()));
    let mut took: Vec<Duration> = (1..4).map(|step| disk.hook(&call("frozen", step)[0]).took).collect();
    disk.holder.say("thaw");
    disk.holder.until(SOON, "a disk again", |line| (line == "thawed").then_some(()));
    figure("hook_disk_hangs_longest", percentile(&mut took, 100), "ms (unoptimised build)");
    let _monitor = disk.serve();
    // Of those that hung it is not known; each is there once, or not at all.
    let events = eventually(SOON, "the first event", || {
        let events = stored(disk.port, "frozen");
        if events.is_empty() { Err("none") } else { Ok(events) }
    });
    let steps = steps(&events);
    assert_eq!(steps[0], (0, false));
    assert!(steps.is_sorted() && steps.windows(2).all(|pair| pair[0] != pair[1]), "{steps:?}");
}

/// What an export that failed says of itself is true of its file, and there is no half of an event in it.
#[test]
fn an_export_to_a_full_disk_goes_on_where_it_says() {
    const EVENTS: u64 = 400;
    let Some(disk) = Disk::new("size=100k") else { return };
    let other = Place::new();
    let _monitor = other.serve(disk.port);
    for number in 0..EVENTS {
        let marker = format!("m-{number}-{}", "x".repeat(300));
        assert_eq!(http::post_event(disk.port, &marker).unwrap().status, 204);
    }
    let file = state(&disk.place).join("all.jsonl").display().to_string();
    let export = |more: &[&str]| {
        let port = disk.port.to_string();
        let words = [&["events", "export", "--port", &port, "-o", &file], more].concat();
        run(&mut disk.inside(&disk.place.command(words)), SOON)
    };
    let seqs = || -> Vec<u64> {
        let text = disk.sh("cat $STATE/all.jsonl").ok().stdout;
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect()
    };
    let full = export(&[]).expect(1);
    assert!(full.stderr.contains("No space left"), "{full}");
    let after = full.stderr.split("--after ").nth(1).unwrap().split_whitespace().next().unwrap();
    let first = seqs();
    assert_eq!(first, (1..=after.parse().unwrap()).collect::<Vec<_>>(), "{full}");
    assert!(!first.is_empty());
    disk.remount("size=8m");
    export(&["--after", after]).ok();
    assert_eq!(seqs(), (1..=EVENTS).collect::<Vec<_>>());
}
