//! Everything that can go wrong around a hook: it ends in time, says nothing to Claude Code, and keeps what it can.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mpm_monitor::hooks::spool::Spool;
use serde_json::json;

use super::session::{DEADLINE, SLACK, all_steps, call, command, fed, hook, steps, wait_for};
use testkit::daemon::{Place, SOON, signal};
use testkit::{eventually, http, program};

fn spool(place: &Place, port: u16) -> Spool {
    Spool::new(place.path("state").join(format!("spool/{port}")))
}

/// A server that treats each connection so, and what it lets a hook keep.
fn served(name: &str, kept: u64, treat: impl Fn(std::net::TcpStream) + Send + 'static) {
    let place = Place::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let server = std::thread::spawn(move || {
        for stream in listener.incoming() {
            if stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty) {
                return;
            }
            treat(stream.unwrap());
        }
    });
    let ran = hook(&place, port, &call("fake", 0)[0]);
    println!("{name}: {:?}, {}", ran.took, ran.stderr.trim());
    assert_eq!(spool(&place, port).waiting().events, kept, "{name}: {ran:?}");
    drop(stop);
    drop(std::net::TcpStream::connect(("127.0.0.1", port)));
    server.join().unwrap();
    if kept > 0 {
        let _monitor = place.serve(port);
        assert_eq!(steps(&wait_for(port, "fake", 1)), [(0, false)], "{name}");
    }
}

fn read_some(stream: &mut std::net::TcpStream) {
    let _ = stream.read(&mut [0; 65536]);
}

/// Waits for the client to go, at most for a while.
fn wait_until_gone(mut stream: std::net::TcpStream) {
    let _ = stream.set_read_timeout(Some(SOON));
    while stream.read(&mut [0; 65536]).is_ok_and(|n| n > 0) {}
}

#[test]
fn servers_that_answer_badly_cost_no_event() {
    let says = |text: &'static str| {
        move |mut stream: std::net::TcpStream| {
            read_some(&mut stream);
            let _ = stream.write_all(text.as_bytes());
        }
    };
    served("takes the connection and hangs", 1, wait_until_gone);
    served("half an answer", 1, |mut stream| {
        read_some(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 2");
        wait_until_gone(stream);
    });
    served("an answer byte by byte", 1, |mut stream| {
        read_some(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nX: ");
        while stream.write_all(b"x").is_ok() {
            // Slowly, which is what is tested.
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    served("closes at once", 1, drop);
    served("closes after the request", 1, says(""));
    served("503", 1, says("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"));
    served("401", 1, says("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"));
    served("another protocol", 1, says("SSH-2.0-OpenSSH_9.2\r\n\r\n"));
    served("an endless head", 1, |mut stream| {
        read_some(&mut stream);
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    served("400", 0, says("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"));
    served("100, then 200", 0, says("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
}

/// What nothing can prolong: the deadline that hooks have unless they are told otherwise.
#[test]
fn the_deadline_holds_whatever_hangs() {
    let place = Place::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut took = Vec::new();
    for input in [call("late", 0)[0].to_string(), String::new(), "{".to_owned()] {
        // Nobody accepts, and nobody closes the input.
        let began = Instant::now();
        let mut usual = command(&place, port, &[]);
        usual.env_remove("MPM_MONITOR_HOOK_DEADLINE");
        let mut child = usual.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        drop(stdin);
        took.push(began.elapsed());
    }
    println!("a monitor that hangs, no input, half an input: {took:?}");
    assert!(took.iter().all(|took| *took < Duration::from_millis(250) + SLACK), "{took:?}");
}

/// A standard error that is full, and one that nobody reads: what it has to say there is nothing that may fail or hold it.
#[test]
fn nothing_comes_of_what_cannot_be_said() {
    let place = Place::new();
    let port = http::free_port();
    let (nobody, mut pipe) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&pipe, true).unwrap();
    while pipe.write(&[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&pipe, false).unwrap();
    let (gone, closed) = std::io::pipe().unwrap();
    drop(gone);
    let full = std::fs::File::create("/dev/full").unwrap();
    for (name, stderr) in [("full", Stdio::from(full)), ("closed", closed.into()), ("not read", pipe.into())] {
        let mut usual = command(&place, port, &["--nonsense"]);
        usual.env_remove("MPM_MONITOR_HOOK_DEADLINE");
        let began = Instant::now();
        let mut child = usual.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        child.stdin.take().unwrap().write_all(call(name, 0)[0].to_string().as_bytes()).unwrap();
        let code = eventually(SOON, "the end of the hook", || child.try_wait().unwrap().ok_or("it waits"));
        assert_eq!((name, code.code()), (name, Some(0)));
        let took = began.elapsed();
        println!("{name}: {took:?}");
        assert!(took < Duration::from_millis(250) + SLACK, "{name}: {took:?}");
    }
    drop(nobody);
    assert_eq!(spool(&place, port).waiting().events, 3);
}

#[test]
fn an_input_that_never_ends_is_left_at_the_deadline() {
    let place = Place::new();
    let port = http::free_port();
    let _monitor = place.serve(port);
    let started = |input: &str| {
        let began = Instant::now();
        let mut child = command(&place, port, &[])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        drop(stdin);
        began.elapsed()
    };
    let nothing = started("");
    let whole = started(&call("endless", 0)[0].to_string());
    let half = started(&call("endless", 0)[1].to_string().replace("\"tool_use_id\"", "\"x\":\"")[..]);
    println!("nothing {nothing:?}, a whole input {whole:?}, half of one {half:?}");
    assert!(nothing < DEADLINE + SLACK && half < DEADLINE + SLACK);
    let events = wait_for(port, "endless", 2);
    assert_eq!(events[0]["correlation_id"], "toolu_endless_0");
    assert_eq!(events[1]["data"]["input_cut_bytes"], 0, "{}", events[1]);
}

#[test]
fn a_signal_in_the_middle_loses_nothing() {
    let place = Place::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut child = command(&place, port, &["--deadline", "700ms"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(call("signal", 0)[0].to_string().as_bytes()).unwrap();
    // It has posted and waits for the answer.
    let (mut stream, _) = listener.accept().unwrap();
    read_some(&mut stream);
    for name in ["TERM", "INT", "HUP", "TERM"] {
        signal(child.id(), name);
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop((stream, listener));
    let _monitor = place.serve(port);
    wait_for(port, "signal", 1);
}

#[test]
fn a_full_disk_costs_what_finds_no_room_and_nothing_more() {
    let place = Place::new();
    let port = http::free_port();
    let limited = |input: &str| {
        // The limit on a file's size stands in for the disk; bash counts KiB.
        let mut shell = Command::new("bash");
        let script = format!("ulimit -f 3; exec {} hook --verbose --port {port} --deadline 2s", program());
        let like = place.command::<&str>([]);
        shell.args(["-c", &script]).env_clear().envs(like.get_envs().filter_map(|(n, v)| Some((n, v?))));
        fed(&mut shell, input.as_bytes()).unnoticed(DEADLINE)
    };
    let mut kept = 0;
    for input in (0..6).flat_map(|step| call("full", step)) {
        let ran = limited(&input.to_string());
        if ran.stderr.contains("lost") {
            break;
        }
        kept += 1;
    }
    assert!((1..12).contains(&kept), "{kept}");
    assert_eq!(spool(&place, port).waiting().events, kept);
    let _monitor = place.serve(port);
    assert_eq!(steps(&wait_for(port, "full", kept as usize)), all_steps(6)[..kept as usize]);
    println!("{kept} events found room");
}

#[test]
fn without_a_place_to_keep_anything_it_still_does_no_harm() {
    let place = Place::new();
    let port = http::free_port();
    let input = call("nowhere", 0)[0].to_string();
    std::fs::write(place.path("file"), "").unwrap();
    for (name, value) in [("HOME", "/proc/nowhere/home"), ("HOME", "file"), ("HOME", "/proc/self/nothing")] {
        let mut command = command(&place, port, &[]);
        command.env_remove("MPM_MONITOR_STATE_DIR").env(name, value);
        let ran = fed(&mut command, input.as_bytes()).unnoticed(DEADLINE);
        println!("{value}: {}", ran.stderr.trim());
    }
    let mut command = command(&place, port, &[]);
    command.env("MPM_MONITOR_STATE_DIR", place.path("file").join("below"));
    fed(&mut command, input.as_bytes()).unnoticed(DEADLINE);
    let mut bare = Command::new(program());
    bare.args(["hook", "--port", &port.to_string()]).env_clear().current_dir("/");
    // Or it would keep the event where the user's own programs keep theirs.
    bare.env("HOME", place.path("home"));
    fed(&mut bare, input.as_bytes()).unnoticed(DEADLINE);
}

/// Whoever holds the spool's lock, or a half record that a crash left, is no reason to wait or to lose.
#[test]
fn a_spool_in_any_state_is_used_or_left() {
    let place = Place::new();
    let port = http::free_port();
    hook(&place, port, &call("state", 0)[0]);
    let dir = spool(&place, port).dir().to_owned();
    let queue = dir.join("queue");
    let torn = [std::fs::read(&queue).unwrap(), b"+torn".to_vec()].concat();
    std::fs::write(&queue, torn).unwrap();
    hook(&place, port, &call("state", 0)[1]);
    let mut holder = Command::new("flock");
    holder.arg(dir.join("lock")).args(["sh", "-c", "echo held; cat"]);
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    holder.stdout.take().unwrap().read_exact(&mut [0; 5]).unwrap();
    let ran = hook(&place, port, &call("state", 1)[0]);
    assert!(ran.stderr.contains("lost"), "{ran:?}");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    std::fs::write(dir.join("held-off"), "").unwrap();
    let _monitor = place.serve(port);
    let events = wait_for(port, "state", 2);
    assert_eq!(steps(&events), all_steps(1));
    eventually(SOON, "an empty spool", || if spool(&place, port).waits() { Err("it waits") } else { Ok(()) });
    assert_eq!(json!(spool(&place, port).waiting().dropped), 0);
}
