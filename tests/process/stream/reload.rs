//! A served dashboard that changes: its pages are told, once for each time it was built, and nothing of the watching grows or
//! stays.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;
use testkit::command::Running;
use testkit::daemon::{Place, SOON, descriptors, metric, ready, resident, signal};
use testkit::wire::{Sio, connect};
use testkit::{eventually, figure, how_many, http};

/// Longer than the time between two looks (2 s) and the pause that ends a burst (500 ms), so that what does not come within it
/// does not come.
const SILENCE: Duration = Duration::from_millis(4500);
const PAGE: &str = "<!doctype html><title>built</title><script type=\"module\" src=\"/_app/start.js\"></script>";

/// A dashboard as the build makes it, in that folder.
fn build(dir: &Path, text: &str) {
    fs::create_dir_all(dir.join("_app/immutable")).unwrap();
    fs::write(dir.join("_app/start.js"), format!("// {text}")).unwrap();
    fs::write(dir.join("index.html"), PAGE).unwrap();
}

/// The threads of a process by name, but for those that read files: they come when there is something to read, and go.
fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut names: Vec<String> = tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .filter(|name| !name.starts_with("blocking"))
        .collect();
    names.sort();
    names
}

/// Whether a process has a descriptor of inotify.
fn has_inotify(pid: u32) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    files.flatten().filter_map(|f| fs::read_link(f.path()).ok()).any(|to| to.to_string_lossy().contains("inotify"))
}

struct Served {
    place: Place,
    port: u16,
    daemon: Running,
}

impl Served {
    /// Serves what is at `dir` in a new place, once `make` has put it there.
    fn new(dir: &str, more: &[&str], make: impl FnOnce(&Path)) -> Self {
        let (place, port) = (Place::new(), http::free_port());
        make(&place.path(dir));
        let (at, port_text) = (place.path(dir).display().to_string(), port.to_string());
        let words = ["run", "--port", &port_text, "--dashboard-dir", &at].into_iter().chain(more.iter().copied());
        let daemon = Running::start(&mut place.command(words));
        ready(port, daemon.pid());
        Self { place, port, daemon }
    }

    fn dir(&self, sub: &str) -> PathBuf {
        self.place.path(sub)
    }

    fn is_watched(&self) {
        let of = |health: Value| health["components"]["dashboard_watch"]["state"].clone();
        eventually(SOON, "the folder to be watched", || {
            let state = of(http::get(self.port, "/health").unwrap().json());
            if state == "ok" { Ok(()) } else { Err(state) }
        });
    }

    fn reloads(&self) -> usize {
        metric(self.port, "dashboard_reloads_total", "") as usize
    }

    /// A client that hears of it.
    fn client(&self) -> Sio {
        let mut client = Sio::join(connect(self.port).unwrap()).unwrap();
        client.until("42[\"history\"").unwrap();
        client
    }
}

#[track_caller]
fn hears(client: &mut Sio) {
    let text = client.until("42[\"reload\"").expect("a reload");
    let told: (String, Value) = serde_json::from_str(text.strip_prefix("42").unwrap()).unwrap();
    assert_eq!((&told.1["type"], &told.1["reason"]), (&"reload".into(), &"svelte-build-updated".into()));
    assert!(told.1["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{text}");
}

#[track_caller]
fn hears_nothing(client: &mut Sio) {
    client.stream.set_read_timeout(Some(SILENCE)).unwrap();
    match client.until("42[\"reload\"") {
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
        other => panic!("{other:?}"),
    }
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
}

/// Reads on until nothing is told any more; at least one reload is.
#[track_caller]
fn hears_the_end(client: &mut Sio) {
    hears(client);
    client.stream.set_read_timeout(Some(SILENCE)).unwrap();
    while client.until("42[\"reload\"").is_ok() {}
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
}

#[test]
fn a_change_is_told_once_and_what_is_no_change_is_not() {
    let served = Served::new("build", &[], |dir| build(dir, "1"));
    served.is_watched();
    let mut client = served.client();
    build(&served.dir("build"), "2");
    hears(&mut client);
    hears_nothing(&mut client);
    // Reading is no change, nor is what an editor leaves for a moment.
    assert_eq!(http::get(served.port, "/").unwrap().body, PAGE);
    assert_eq!(http::get(served.port, "/_app/start.js").unwrap().body, "// 2");
    for name in ["index.html~", ".index.html.swp", "_app/x.tmp"] {
        fs::write(served.dir("build").join(name), "x").unwrap();
    }
    hears_nothing(&mut client);
    assert_eq!(served.reloads(), 1);
    // New folders are watched as well.
    fs::create_dir_all(served.dir("build/_app/immutable/deep/er")).unwrap();
    hears(&mut client);
    fs::write(served.dir("build/_app/immutable/deep/er/x.js"), "x").unwrap();
    hears(&mut client);
    fs::rename(served.dir("build/_app/x.tmp"), served.dir("build/_app/x.js")).unwrap();
    hears(&mut client);
}

#[test]
fn a_folder_that_is_removed_moved_or_linked_anew_goes_on_being_watched() {
    let served = Served::new("current", &[], |dir| {
        build(&dir.with_file_name("one"), "1");
        build(&dir.with_file_name("two"), "2");
        symlink("one", dir).unwrap();
    });
    served.is_watched();
    let mut client = served.client();
    // As releases are switched: the folders stay as they are.
    symlink("two", served.dir("next")).unwrap();
    fs::rename(served.dir("next"), served.dir("current")).unwrap();
    hears(&mut client);
    assert_eq!(http::get(served.port, "/_app/start.js").unwrap().body, "// 2");
    fs::write(served.dir("two/_app/start.js"), "// 3").unwrap();
    hears(&mut client);
    // As a build tool does: all is removed, and nobody is told to load what is not there.
    fs::remove_dir_all(served.dir("two")).unwrap();
    hears_nothing(&mut client);
    build(&served.dir("two"), "4");
    hears(&mut client);
    fs::write(served.dir("two/_app/start.js"), "// 5").unwrap();
    hears(&mut client);
    // Or another one is made beside it and put in its place.
    build(&served.dir("new"), "6");
    fs::rename(served.dir("two"), served.dir("old")).unwrap();
    fs::rename(served.dir("new"), served.dir("two")).unwrap();
    hears(&mut client);
    fs::write(served.dir("two/_app/start.js"), "// 7").unwrap();
    hears(&mut client);
    hears_nothing(&mut client);
}

/// File systems give the number of a folder that was removed to the next one, which then looks like it.
#[test]
fn a_folder_that_is_made_again_at_once_is_another_one() {
    let served = Served::new("build", &[], |dir| build(dir, "1"));
    served.is_watched();
    let mut client = served.client();
    let dir = served.dir("build");
    let number = || fs::metadata(&dir).unwrap().ino();
    let mut same = 0;
    for round in 0..5 {
        fs::remove_dir_all(dir.join("_app")).unwrap();
        fs::remove_file(dir.join("index.html")).unwrap();
        let before = number();
        fs::remove_dir(&dir).and_then(|()| fs::create_dir(&dir)).unwrap();
        same += usize::from(number() == before);
        build(&dir, "2");
        hears_the_end(&mut client);
        fs::write(dir.join("_app/start.js"), format!("// {round}")).unwrap();
        hears(&mut client);
    }
    figure("watch_same_number", same, "of 5 new folders had the number of the old one");
}

#[test]
fn ten_thousand_changes_are_a_few_reloads_and_leave_nothing_behind() {
    let changes = how_many("MPM_MONITOR_FILE_CHANGES", 10_000);
    let mut served = Served::new("build", &["--set", "log.level=warn"], |dir| build(dir, "1"));
    served.is_watched();
    let (pid, dir) = (served.daemon.pid(), served.dir("build"));
    let mut client = served.client();
    let burst = |count: usize| {
        for n in 0..count {
            match n % 20 {
                // Folders come and go, too.
                19 => {
                    let sub = dir.join(format!("_app/v{}", n % 7));
                    let _ = fs::remove_dir_all(&sub);
                    fs::create_dir(&sub).unwrap();
                }
                _ => fs::write(dir.join(format!("_app/{}.js", n % 50)), format!("// {n}")).unwrap(),
            }
        }
    };
    // What a first burst takes once: the files themselves, buffers of the allocator.
    burst(changes / 10);
    hears_the_end(&mut client);
    let before = (threads(pid), descriptors(pid), resident(pid));
    let (began, reloads) = (Instant::now(), served.reloads());
    burst(changes);
    let took = began.elapsed();
    hears_the_end(&mut client);
    let told = served.reloads() - reloads;
    let after = (threads(pid), descriptors(pid), resident(pid));
    figure("watch_changes", changes, format!("changes in {} ms", took.as_millis()).as_str());
    figure("watch_reloads", told, "reloads told");
    figure("watch_threads", format!("{} -> {}", before.0.len(), after.0.len()), "threads");
    figure("watch_fds", format!("{} -> {}", before.1, after.1), "descriptors");
    figure("watch_memory", format!("{} -> {}", before.2, after.2), "KiB");
    // One at its end, and one every five seconds until then.
    assert!((1..=2 + took.as_secs() as usize / 5).contains(&told), "{told} reloads in {took:?}");
    assert_eq!((&before.0, before.1), (&after.0, after.1));
    assert!(after.2 < before.2 + 1024, "{} KiB, then {} KiB", before.2, after.2);

    // And now it is told to end in the middle of one. A client would be given its time to say goodbye.
    drop(client);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                if stop.load(std::sync::atomic::Ordering::Acquire) {
                    return;
                }
                fs::write(dir.join("_app/end.js"), format!("// {n}")).unwrap();
            }
        });
        let began = Instant::now();
        signal(pid, "TERM");
        let code = served.daemon.end(SOON);
        stop.store(true, std::sync::atomic::Ordering::Release);
        assert_eq!(code, 0);
        figure("watch_shutdown", began.elapsed().as_millis(), "ms in the middle of a burst");
        assert!(began.elapsed() < Duration::from_secs(1), "took {:?}", began.elapsed());
    });
    let log = served.daemon.seen.join("\n");
    assert!(!log.contains("has not ended") && !log.contains("panic"), "{log}");
}

#[test]
fn its_end_is_joined_and_reported() {
    let mut served = Served::new("build", &[], |dir| build(dir, "1"));
    served.is_watched();
    assert!(!has_inotify(served.daemon.pid()));
    fs::write(served.dir("build/x.js"), "x").unwrap();
    signal(served.daemon.pid(), "TERM");
    assert_eq!(served.daemon.end(SOON), 0);
    let log = served.daemon.seen.join("\n");
    assert!(log.contains("dashboard watch joined"), "{log}");
}

/// Off, and without a dashboard, and where one was found without being named: nothing is looked at.
#[test]
fn what_is_not_watched_costs_nothing() {
    for more in [&["--watch=off"][..], &["--set", "dashboard.watch=off"]] {
        let served = Served::new("build", more, |dir| build(dir, "1"));
        let pid = served.daemon.pid();
        assert!(!has_inotify(pid), "{more:?}: {:?}", threads(pid));
        assert_eq!(http::get(served.port, "/health").unwrap().json()["components"]["dashboard_watch"], Value::Null);
        let mut client = served.client();
        build(&served.dir("build"), "2");
        hears_nothing(&mut client);
    }
    let (place, port) = (Place::new(), http::free_port());
    // There is nothing of one's own page that could change.
    let _daemon = place.serve_with(port, &["dashboard.watch=on"]);
    assert_eq!(http::get(port, "/health").unwrap().json()["components"]["dashboard_watch"], Value::Null);
}

/// A folder that is too large to look at, here by the number of its files, is served, and the state says what to do.
#[test]
fn folder_too_large_to_watch_is_served_all_the_same() {
    let served = Served::new("build", &[], |dir| {
        build(dir, "1");
        for n in 0..50_001 {
            fs::File::create(dir.join(format!("_app/immutable/{n}"))).unwrap();
        }
    });
    let state = eventually(SOON, "the limit to be told", || {
        let state = http::get(served.port, "/health").unwrap().json()["components"]["dashboard_watch"].clone();
        if state["state"] == "degraded" { Ok(state) } else { Err(state) }
    });
    assert!(state["detail"].as_str().unwrap().contains("dashboard.watch = off"), "{state}");
    assert_eq!(http::get(served.port, "/").unwrap().body, PAGE);
    assert_eq!(http::get(served.port, "/ready").unwrap().status, 200);
}

/// A page in a real browser loads itself again when it is told, as that of Claude MPM does.
#[test]
fn a_page_in_a_browser_loads_itself_again() {
    let Some(mut browser) = super::speaks::Browser::start() else { return };
    // The page speaks just enough of the protocol, with nothing that is not the browser's own.
    let script = "const s = new WebSocket(`ws://${location.host}/socket.io/?EIO=4&transport=websocket`); \
                  s.onmessage = ({ data }) => { \
                    if (data[0] === '0') s.send('40'); \
                    if (data === '2') s.send('3'); \
                    if (data.startsWith('40')) document.body.dataset.state = 'live'; \
                    if (data.startsWith('42[\"reload\"')) location.reload(); };";
    let served = Served::new("build", &[], |dir| {
        build(dir, "1");
        fs::write(dir.join("_app/start.js"), format!("document.title = 'first';\n{script}")).unwrap();
    });
    served.is_watched();
    browser.ask(&serde_json::json!({"open": format!("http://127.0.0.1:{}/", served.port)}));
    let mut title = |wanted: &str| {
        eventually(PATIENCE, "the page", || {
            let state = browser.eval("[document.title, document.body?.dataset.state ?? '']");
            if state == serde_json::json!([wanted, "live"]) { Ok(()) } else { Err(state) }
        });
    };
    title("first");
    fs::write(served.dir("build/_app/start.js"), format!("document.title = 'second';\n{script}")).unwrap();
    title("second");
    assert_eq!(served.reloads(), 1);
}
