//! What it watches is never harmed and never hidden: tmux servers beside the service, and seen from within the walls of its unit.

use testkit::machine::{Machine, PORT, Scope, unit};
use testkit::{figure, here, how_many};

for_both_scopes!(pain_1_tmux_survives_every_restart, pain_2_the_walls_of_the_unit_hide_no_tmux);

/// What systemd/README.md says to do, so that the machine's instance watches a person's agents.
fn as_that_person() -> String {
    let readme = std::fs::read_to_string(here("systemd/README.md")).unwrap();
    let section = readme.split_once("### A person's agents").expect("the section").1;
    let recipe = section.split_once("```ini\n").expect("the drop-in").1.split_once("```").expect("its end").0;
    recipe.replace("=ann", "=boxuser").lines().map(|line| format!("{}\n", line.trim())).collect()
}

/// The processes in the instance's control group.
fn in_our_group(machine: &Machine) -> Vec<String> {
    let script = format!("grep -ls '/{}' /proc/[0-9]*/cgroup", unit(PORT));
    let files = machine.root(&["sh", "-c", &script]).stdout;
    files.lines().filter_map(|f| f.split('/').nth(2)).map(str::to_owned).collect()
}

/// The processes of the machine's user that are there for long, but for the monitor's own.
fn of_the_user(machine: &Machine) -> Vec<String> {
    let listed = machine.root(&["ps", "-u", &machine.uid, "-o", "pid=,comm="]).ok().stdout;
    listed.lines().filter(|l| !l.contains("mpm-monitor")).map(str::to_owned).collect()
}

/// Promise P8. A restart, a kill, a stop or an uninstall ends the processes of the unit's control group, so none of the user's
/// may ever be in it: the monitor starts no tmux.
fn pain_1_tmux_survives_every_restart(scope: Scope) {
    let machine = boot!(scope);
    let restarts = how_many("MPM_MONITOR_TMUX_RESTARTS", 50);
    let session = ["new-session", "-d", "-s", "agent", "sleep 1000"];
    // As people start them: by hand, and as a unit of their own.
    machine.user(&[&["tmux", "-L", "by-hand"][..], &session].concat()).ok();
    let as_unit =
        ["systemd-run", "--user", "--unit=agents", "--property=Type=forking", "/usr/bin/tmux", "-L", "as-unit"];
    machine.user(&[&as_unit[..], &session].concat()).ok();
    let panes = || {
        let format = "#{session_name} #{session_created} #{pid} #{pane_pid} #{pane_dead}";
        ["by-hand", "as-unit"].map(|server| {
            let asked = ["tmux", "-N", "-L", server, "list-panes", "-a", "-F", format];
            machine.user(&asked).ok().stdout
        })
    };
    let (before, processes) = (panes(), of_the_user(&machine));
    let survived = |what: &str| {
        assert_eq!(panes(), before, "{what} harmed a tmux");
        let now = of_the_user(&machine);
        let gone: Vec<_> = processes.iter().filter(|p| !now.contains(p)).collect();
        assert!(gone.is_empty(), "{what} ended {gone:?}");
    };

    machine.install(&[]);
    let script = format!(
        "for i in $(seq {restarts}); do {} restart {} >/dev/null || exit 1; done",
        machine.program(),
        machine.scope.flag()
    );
    let all = machine.run(&["sh", "-c", &script]).ok();
    survived("a restart");
    assert_eq!(in_our_group(&machine), [machine.property(PORT, "MainPID")], "it shares its control group");
    let pid = machine.property(PORT, "MainPID");
    machine.root_client(&["probe.py", "signal", "KILL", &pid, "8765"]);
    survived("kill -9");
    figure(&format!("tmux_restarts_survived_{}", scope.name()), restarts, "restarts");
    figure(&format!("tmux_restart_mean_{}", scope.name()), all.took.as_millis() / restarts as u128, "ms");

    if scope == Scope::User {
        // The check is checked: a server in the control group would not survive.
        let inside = ["tmux", "-N", "-L", "inside", "list-sessions"];
        machine
            .drop_in(PORT, "[Service]\nExecStartPost=/usr/bin/tmux -L inside new-session -d -s agent \"sleep 1000\"\n");
        machine.verb("restart", &[]).ok();
        machine.user(&inside).ok();
        assert!(in_our_group(&machine).len() > 1);
        machine.drop_in(PORT, "");
        machine.verb("restart", &[]).ok();
        assert_ne!(
            machine.user(&inside).code,
            0,
            "a restart does not end what is in the group: nothing is proved here"
        );
        survived("that restart");
    }
    machine.verb("uninstall", &["--purge"]).ok();
    survived("an uninstall");
}

/// A `PrivateTmp=` or `ProtectHome=` too much, and all agents are gone from the monitor's view.
fn pain_2_the_walls_of_the_unit_hide_no_tmux(scope: Scope) {
    let machine = boot!(scope);
    machine.install(&[]);
    let session = ["new-session", "-d", "-s", "agent", "sleep 1000"];
    let chosen = if scope == Scope::System { as_that_person() } else { String::new() };
    if scope == Scope::System {
        // Unless somebody chose it, the machine's sees neither homes nor what others keep in /tmp.
        let pid = machine.property(PORT, "MainPID");
        let inside = ["nsenter", "--target", &pid, "--mount", "--"];
        machine.root(&["touch", "/tmp/of-another"]).ok();
        machine.root(&[&inside[..], &["test", "-e", "/tmp/of-another"]].concat()).expect(1);
        machine.root(&[&inside[..], &["test", "-e", "/home/boxuser"]].concat()).expect(1);
        machine.drop_in(PORT, &chosen);
        machine.verb("restart", &[]).ok();
        assert_eq!(machine.property(PORT, "User"), "boxuser");
    }
    // One of the very account that the service runs as: what keeps it out could only be the unit.
    let as_account = ["runuser", "-u", "boxuser", "--", "env", "SHELL=/bin/sh", "TMUX_TMPDIR=/tmp"];
    machine.root(&[&as_account[..], &["tmux"], &session].concat()).ok();
    // It runs before the program does, and within the same walls: namespaces, system calls, address families.
    let ask = format!("{chosen}[Service]\nExecStartPre=/usr/bin/tmux -N list-sessions -F seen-#{{session_name}}\n");
    machine.drop_in(PORT, &ask);
    machine.verb("restart", &[]).ok();
    let log = || machine.verb("logs", &["-n", "60"]).ok().stdout;
    assert!(log().contains("seen-agent"), "{}", log());

    // Those of other users, and their bus, are where they are: only their modes keep it out, as they keep out anybody.
    machine.user(&[&["tmux", "-L", "theirs"][..], &session].concat()).ok();
    let pid = machine.property(PORT, "MainPID");
    let inside = ["nsenter", "--target", &pid, "--mount", "--"];
    let theirs = format!("/tmp/tmux-{}/theirs", machine.uid);
    let seen =
        machine.root(&[&inside[..], &["tmux", "-N", "-S", &theirs, "list-sessions", "-F", "#{session_name}"]].concat());
    assert_eq!(seen.ok().text(), "agent");
    machine.root(&[&inside[..], &["test", "-S", &format!("/run/user/{}/bus", machine.uid)]].concat()).ok();
    // And a home can be read.
    machine.root(&[&inside[..], &["test", "-d", "/home/boxuser/.config"]].concat()).ok();

    if scope == Scope::System {
        // The check is checked.
        machine.drop_in(PORT, &format!("{ask}PrivateTmp=yes\n"));
        assert_ne!(machine.verb("restart", &["--timeout", "5s"]).code, 0, "with PrivateTmp= it sees it all the same");
        assert!(log().contains("error connecting to /tmp/tmux-"), "it failed for another reason: {}", log());
    }
}
