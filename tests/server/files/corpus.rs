//! Hostile paths through every route: not a byte of what they are after, and a refusal with a code each time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

/// The paths with the code of their refusal; `{root}`, `{base}` are the place's.
fn corpus(place: &Place) -> Vec<(String, &'static str)> {
    const OUTSIDE: &str = "outside_roots";
    const UP: &str = "path_leads_up";
    const GONE: &str = "not_found";
    const RELATIVE: &str = "relative";
    let mut all: Vec<(String, &'static str)> = Vec::new();
    // Absolute: the system's files, and those beside the root.
    for path in [
        "/etc/passwd",
        "/etc/shadow",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/ssl",
        "/etc",
        "/",
        "/root",
        "/home",
        "/var/log",
        "/boot",
        "/dev/null",
        "/dev/zero",
        "/dev/random",
        "/dev/stdin",
        "/dev/fd/0",
        "/dev/fd/3",
        "/dev/mem",
        "/dev/tty",
        "/dev/shm",
        "/tmp",
        "/private/etc/passwd",
        "/System/Library",
        "/Library/Keychains.db",
        "/run",
        "/sys/kernel",
        "/usr/bin/env",
        "/usr/share/doc",
        "//etc/passwd",
        "///etc/passwd",
        "////etc//passwd",
        "/./etc/passwd",
        "/./././etc/./passwd",
        "/etc/./passwd",
        "/etc/passwd/",
        "/etc/passwd/.",
        "/etc/passwd//",
        "/ETC/passwd",
        "/Etc/Passwd",
        "/etc/passwd ",
        " /etc/passwd\t",
        "/etc/passwd.",
        "/etc/passwd\n",
        "/etc/passwd#a.txt",
        "/etc/passwd?a.txt",
        "/etc/passwd;a.txt",
        "/etc/passwd:$DATA",
        "/etc/passwd%00.txt",
        "/%2e%2e/etc/passwd",
        "/..%2fetc%2fpasswd",
        "/..%5cetc%5cpasswd",
        "/..\\etc\\passwd",
        "/\\etc\\passwd",
        "/C:/Windows/win.ini",
        "/file:///etc/passwd",
        "/..;/etc/passwd",
        "/.../etc/passwd",
        "/..../etc/passwd",
        "/․․/etc/passwd",
        "/．．/etc/passwd",
        "/%c0%ae%c0%ae/etc",
        "/\u{202e}etc/passwd",
        "/e\u{200c}tc/passwd",
        "/etc\u{0}/passwd",
    ] {
        let code = if path.contains('\0') {
            "path_has_nul"
        } else if path.starts_with(' ') {
            RELATIVE
        } else {
            OUTSIDE
        };
        all.push((path.into(), code));
    }
    // What processes show of themselves and of all else.
    for what in [
        "environ",
        "cmdline",
        "maps",
        "mem",
        "auxv",
        "status",
        "root",
        "root/etc/passwd",
        "cwd",
        "cwd/Cargo.toml",
        "exe",
        "fd",
        "fd/0",
        "fd/1",
        "fd/3",
        "fd/10",
        "fdinfo/0",
        "task",
        "mounts",
        "mountinfo",
        "net/tcp",
        "ns",
        "io",
        "stack",
        "attr/current",
    ] {
        for who in ["self", "thread-self", "1"] {
            all.push((format!("/proc/{who}/{what}"), OUTSIDE));
        }
    }
    for path in ["/proc", "/proc/kcore", "/proc/kmsg", "/proc/version", "/proc/sysrq-trigger", "/sys/power/state"] {
        all.push((path.into(), OUTSIDE));
    }
    all.push((format!("/proc/{}/environ", std::process::id()), OUTSIDE));
    all.push(("/proc/self/root{base}/outside/hidden.txt".into(), OUTSIDE));
    all.push(("/proc/self/root{root}/a.txt".into(), OUTSIDE));
    // Beside the root, by its name.
    for path in [
        "{base}",
        "{base}/",
        "{base}/hidden.txt",
        "{base}/outside",
        "{base}/outside/hidden.txt",
        "{base}/outside/hidden.png",
        "{base}/root-sibling/hidden.txt",
        "{base}/root-sibling",
        "{base}/roothidden.txt",
        "{base}/ROOT/a.txt",
        "{base}/Root/.ssh/id",
        "{base}//outside//hidden.txt",
        "{base}/./outside/./hidden.txt",
        "{base}/outside/hidden.txt/",
        "{base}/root ",
        "{base}/root\n/a.txt",
        "{base}/roo",
        "{base}/root\\..\\hidden.txt",
        "{base}/root%2f..%2fhidden.txt",
        "{base}/r\u{043e}ot/a.txt",
    ] {
        all.push((path.into(), OUTSIDE));
    }
    // Up, in every number and place.
    for depth in 1..=24 {
        all.push((format!("{{root}}/{}etc/passwd", "../".repeat(depth)), UP));
        all.push((format!("/{}etc/passwd", "../".repeat(depth)), UP));
    }
    for path in [
        "{root}/..",
        "{root}/../",
        "{root}/../hidden.txt",
        "{root}/../outside/hidden.txt",
        "{root}/../root/a.txt",
        "{root}/../root/../outside/hidden.txt",
        "{root}/deep/../../hidden.txt",
        "{root}/deep/er/../../../hidden.txt",
        "{root}/out/..",
        "{root}/out/../hidden.txt",
        "{root}/./../hidden.txt",
        "{root}/.//..//hidden.txt",
        "{root}/none/../../hidden.txt",
        "{root}/a.txt/../../hidden.txt",
        "{base}/outside/../outside/hidden.txt",
        "{root}/.ssh/../.ssh/id",
    ] {
        all.push((path.into(), UP));
    }
    // Relative: nothing says below what.
    for path in [
        "etc/passwd",
        "./etc/passwd",
        "~",
        "~/.ssh/id",
        "~root/.ssh/id",
        "$HOME/.ssh/id",
        "${HOME}",
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "C:\\Windows\\win.ini",
        "\\\\?\\C:\\",
        "\\etc\\passwd",
        "-rf",
        "--help",
        "%2fetc%2fpasswd",
        "http://127.0.0.1/",
        "hidden.txt",
        "\u{feff}/etc/passwd",
        "*",
        "`id`",
        "$(id)",
        "| cat /etc/passwd",
    ] {
        all.push((path.into(), RELATIVE));
    }
    for path in ["..", "../", "../hidden.txt", "../../../../../../etc/passwd", "a/../../hidden.txt", "./.."] {
        all.push((path.into(), "relative_up"));
    }
    // Links in the root that lead out of it.
    for path in [
        "out",
        "out/hidden.txt",
        "out/foreign-name-of-a-file",
        "out.txt",
        "out.png",
        "absolute",
        "absolute/hidden.txt",
        "etc",
        "etc/passwd",
        "passwd",
        "up",
        "up/hidden.txt",
        "up/outside/hidden.txt",
        "upup",
        "procroot",
        "procroot/etc/passwd",
        "proccwd",
        "proccwd/Cargo.toml",
        "environ",
        "fd",
        "fd/0",
        "chain",
        "chain/hidden.txt",
        "chain2/hidden.txt",
        "chain3",
        "deep/er/out.txt",
        "./out//hidden.txt",
        "out/",
        "out/./hidden.txt",
        "up/root/a.txt",
        "up/root/up/hidden.txt",
        "absolute/../root/a.txt",
    ] {
        let code = if path.contains("..") { UP } else { OUTSIDE };
        all.push((format!("{{root}}/{path}"), code));
    }
    // Secrets within the root, by their names and by links, in any case.
    for path in [
        ".ssh",
        ".ssh/id",
        ".SSH/id",
        ".Ssh/ID",
        "./.ssh/./id",
        ".ssh//id",
        ".env",
        ".ENV",
        ".config/mpm-monitor/token",
        ".config/mpm-monitor",
        ".claude/.credentials.json",
        ".env/",
        "deep/.ssh/id",
        ".git/config",
        ".netrc",
        ".aws/credentials",
        "hidden.txt",
        "hidden",
        "hidden/id",
        "hidden2.txt",
        ".bash_history",
    ] {
        all.push((format!("{{root}}/{path}"), "secret"));
    }
    // What is not there, whatever it is to become.
    for path in [
        "loop",
        "loop/x",
        "a.txt/x",
        "a.txt/secret",
        "none",
        "a.txt ",
        "a.txt.",
        "a.txt::$DATA",
        "A.TXT%00",
        "%2e%2e",
        "%2e%2e/hidden.txt",
        "..%2fhidden.txt",
        "..\\hidden.txt",
        "．．/hidden.txt",
        "․․/hidden.txt",
        "...",
        "..;/hidden.txt",
        "\u{202e}txt.a",
        "-",
        "--",
        "a.txt\n",
        "*",
        "?",
        "[a]*",
        ":(top)a.txt",
        ":!a.txt",
        ":/a.txt",
    ] {
        all.push((format!("{{root}}/{path}"), GONE));
    }
    // Too much, and what no path has.
    all.push((format!("{{root}}/{}", "a".repeat(256)), "path_too_long"));
    all.push((format!("{{root}}/{}", "a/".repeat(200)), "path_too_long"));
    all.push((format!("/{}", "a".repeat(5000)), "path_too_long"));
    all.push((format!("{{root}}{}", "/".repeat(5000)), "path_too_long"));
    all.push((format!("/{}etc/passwd", "../".repeat(2000)), "path_too_long"));
    for path in
        ["{root}/a.txt\0", "{root}/a.txt\0.png", "\0", "\0/etc/passwd", "/etc/passwd\0{root}/a.txt", "{root}\0/a.txt"]
    {
        all.push((path.into(), "path_has_nul"));
    }
    let (root, base) = (place.root(""), place.base.to_str().unwrap().to_owned());
    let root = root.trim_end_matches('/').to_owned();
    all.into_iter().map(|(path, code)| (path.replace("{root}", &root).replace("{base}", &base), code)).collect()
}

/// Whether a code is what was said, given what the route makes of a path.
fn fits(code: &str, said: &str, route: &str, path: &str) -> bool {
    match said {
        // Below the working directory of the process, which is no root.
        "relative" => matches!(code, "path_relative" | "outside_roots" | "secret"),
        "relative_up" => matches!(code, "path_leads_up" | "path_relative"),
        "path_has_nul" | "path_too_long" if !path.starts_with('/') => true,
        // On a file system that knows no case, a name in another one is the root's own.
        "outside_roots" if path.contains("/ROOT/") || path.contains("/Root/") => code == said || code == "secret",
        // Linux takes only as much of a path as it needs to say that a name is too long or is no folder.
        "not_found" => code == said || (route == "list" && code == "not_a_directory"),
        _ => code == said,
    }
}

#[track_caller]
fn nothing_foreign(answer: &str, path: &str) {
    for foreign in [SECRET, SECRET64, FOREIGN_NAME, "root:x:0:0", "PATH=", "Linux version", "[package]"] {
        // A refusal may name what was asked for.
        let named = answer.replace(path, "");
        assert!(!named.contains(foreign), "{path:?} gave {foreign:?}: {answer}");
    }
}

#[tokio::test]
async fn no_hostile_path_gives_a_byte_from_outside() {
    let place = Place::new();
    let rig = start(place.settings());
    let corpus = corpus(&place);
    assert!(corpus.len() >= 200, "{} paths", corpus.len());
    let (mut requests, mut slowest) = (0, Duration::ZERO);
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    for (path, said) in &corpus {
        for (route, name) in [
            ("/api/file/read", "read"),
            ("/api/files", "list"),
            ("/api/file/diff", "diff"),
            ("/api/file", "file"),
            ("/api/git-history", "history"),
        ] {
            let began = Instant::now();
            let answer = if matches!(name, "file" | "history") {
                post(&rig, route, path).await
            } else {
                get(&rig, route, path).await
            };
            slowest = slowest.max(began.elapsed());
            requests += 1;
            nothing_foreign(&answer, path);
            assert!((400..500).contains(&status(&answer)), "{route} {path:?}: {answer}");
            let code = described(&answer, route);
            assert!(fits(&code, said, name, path), "{route} {path:?}: {code} instead of {said}: {answer}");
            *codes.entry(code).or_default() += 1;
        }
    }
    println!("{} hostile paths, {requests} requests over HTTP, 0 foreign bytes, slowest {slowest:?}", corpus.len());
    println!("codes: {codes:?}");
}

/// Forms that are hostile before they are decoded: to queries, bodies, and the routes by which the Python server gave files.
#[tokio::test]
async fn no_encoding_gives_a_byte_from_outside() {
    let place = Place::new();
    let rig = start(place.settings());
    let good = encoded(&place.root("a.txt"));
    let root = place.root("");
    let mut requests = 0;
    let queries = [
        "path=%2Fetc%2Fpasswd",
        "path=%252Fetc%252Fpasswd",
        "path=%25252Fetc",
        "path=/etc/passwd%00.txt",
        "path=/etc/passwd%0a",
        "path=%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "path=%c0%af..%c0%afetc%c0%afpasswd",
        "path=%ff%fe/etc/passwd",
        "path=%u002e%u002e/etc",
        "path=..%5c..%5cetc%5cpasswd",
        "path=/%2e%2e/etc/passwd",
        "path=/etc%2fpasswd",
        "path=%2f%2fetc%2fpasswd",
        "path=/etc/passwd#",
        "path=+/etc/passwd",
        "path=/etc/passwd&path=/etc/hostname",
        "PATH=/etc/passwd",
        "path[]=/etc/passwd",
        "path=&path=/etc/passwd",
        "path=%",
        "path=%4",
        "path=%zz",
        "path",
        "",
        "&&&",
        "path=%F0%9F%92%A9",
        "file=/etc/passwd",
        "path=/etc/passwd;x=1",
    ];
    for route in ["/api/file/read", "/api/files", "/api/file/diff"] {
        for query in queries.iter().map(|q| (*q).to_owned()).chain([format!("path={good}&path=/etc/passwd")]) {
            let answer = rig.ask("GET", &format!("{route}?{query}"), "", "").await;
            nothing_foreign(&answer, "\u{1}");
            assert!((400..500).contains(&status(&answer)), "{route}?{query}: {answer}");
            described(&answer, route);
            requests += 1;
        }
    }
    // Options and searches of git in place of a commit; the path is good.
    for commit in [
        "--output=/tmp/x",
        "-p",
        "HEAD:../outside/hidden.txt",
        "HEAD:.env",
        ":/secret",
        "a..b",
        "@{-1}",
        "HEAD~1",
        "x y",
        "$(id)",
        "--no-index",
        "..",
        "HEAD^{/x}",
        "\0",
    ] {
        let answer = rig.ask("GET", &format!("/api/file/diff?path={good}&commit={}", encoded(commit)), "", "").await;
        assert_eq!(described(&answer, "/api/file/diff"), "bad_commit", "{commit}: {answer}");
        requests += 1;
    }
    for text in [
        "",
        "[]",
        "null",
        "\"/etc/passwd\"",
        "{\"path\":[\"/etc/passwd\"]}",
        "{\"path\":{\"a\":1}}",
        "{\"path\":7}",
        "{\"path\":null}",
        "{\"path\":\"/etc/passwd\\u0000\"}",
        "{\"path\":\"\\/etc\\/passwd\"}",
        "{\"path\":\"\\u002fetc\\u002fpasswd\"}",
        "{",
        "xx",
        "{\"path\":\"/etc/passwd\",\"path\":\"/etc/hostname\"}",
        "path=/etc/passwd",
        "\u{feff}{\"path\":\"/etc/passwd\"}",
    ] {
        for route in ["/api/file", "/api/git-history"] {
            let answer = rig.ask("POST", route, "", text).await;
            nothing_foreign(&answer, "\u{1}");
            assert!((400..500).contains(&status(&answer)), "{route} {text}: {answer}");
            described(&answer, route);
            requests += 1;
        }
    }
    // The forms that the Python server leaks, and a path that is no part of a query.
    for path in [
        "/static//etc/hostname",
        "/static/%2fetc%2fhostname",
        "/_app//etc/hostname",
        "/static/../../../../../etc/passwd",
        "/static/..%2f..%2f..%2fetc%2fpasswd",
        "/_app/..%2f..%2f..%2fetc%2fpasswd",
        "/api/file/etc/passwd",
        "/api/files/etc",
        "/api/file/read/etc/passwd",
        "/api/file/read/../../../../etc/passwd",
        "/api/file//etc/passwd",
    ] {
        let answer = rig.ask("GET", path, "", "").await;
        nothing_foreign(&answer, path);
        assert!(matches!(status(&answer), 404 | 400), "{path}: {answer}");
        requests += 1;
    }
    // A page of another site gets nothing at all.
    let answer = rig.ask("GET", &format!("/api/file/read?path={good}"), "Origin: https://evil.example\r\n", "").await;
    assert_eq!(code(&answer), "origin_not_allowed");
    // The good path is good, which shows that all the others were refused for what they are.
    assert_eq!(status(&rig.ask("GET", &format!("/api/file/read?path={good}"), "", "").await), 200);
    assert_eq!(status(&get(&rig, "/api/files", &root).await), 200);
    println!("{requests} requests in hostile encodings, 0 foreign bytes");
}

/// The Socket.IO way: the client chooses the working directory as well.
#[tokio::test]
async fn no_hostile_path_gives_a_byte_over_socket_io() {
    let place = Place::new();
    let rig = start(place.settings());
    let mut client = Ws::join(&rig).await;
    let corpus = corpus(&place);
    let root = place.root("");
    let mut asked = 0;
    for (path, said) in &corpus {
        for working in [None, Some("/"), Some(root.as_str())] {
            let mut question = json!({"file_path": path});
            if let Some(dir) = working {
                question["working_dir"] = dir.into();
            }
            client.send(&format!("42{}", json!(["read_file", question]))).await;
            let answer = client.event("file_content_response").await;
            asked += 1;
            nothing_foreign(&answer.to_string(), path);
            assert_eq!(answer["success"], false, "{path:?} in {working:?}: {answer}");
            assert!(answer["code"].is_string() && answer["error"].is_string(), "{answer}");
            if path.starts_with('/') {
                assert!(
                    fits(answer["code"].as_str().unwrap(), said, "read_file", path),
                    "{path:?}: {answer} for {said}"
                );
            }
        }
    }
    println!("{} hostile paths, {asked} questions over Socket.IO, 0 foreign bytes", corpus.len());
}

/// A folder of a session is a root only if it is our user's, and no part of the system.
#[tokio::test]
async fn a_session_opens_its_own_folder_and_no_other() {
    let place = Place::new();
    let project = place.path("outside");
    let rules = mpm_monitor::server::files::Rules { sessions: true, roots: Vec::new(), ..place.rules() };
    let rig = start(mpm_monitor::config::Settings { files: rules, ..settings() });
    let inside = place.path("outside/foreign-name-of-a-file");
    let inside = inside.to_str().unwrap();
    assert_eq!(code(&get(&rig, "/api/file/read", inside).await), "outside_roots");
    for dir in ["/", "/etc", "/proc", "/proc/self/root", "/usr", "relative", "", "/tmp", "/nonexistent/x"] {
        let event = json!({"data": {"subtype": "pre_tool", "cwd": dir, "session_id": "s"}});
        assert_eq!(status(&rig.post(&event.to_string()).await), 204);
    }
    for path in ["/etc/passwd", "/proc/self/environ", "/usr/bin/env", inside] {
        assert_eq!(code(&get(&rig, "/api/file/read", path).await), "outside_roots", "{path}");
    }
    let event = json!({"data": {"subtype": "pre_tool", "cwd": project.to_str().unwrap(), "session_id": "s"}});
    assert_eq!(status(&rig.post(&event.to_string()).await), 204);
    let answer = get(&rig, "/api/file/read", inside).await;
    assert_eq!((status(&answer), json_of(&answer)["content"].as_str()), (200, Some(SECRET)), "it is a root now");
    assert_eq!(code(&get(&rig, "/api/file/read", place.path("hidden.txt").to_str().unwrap()).await), "outside_roots");
    let off = mpm_monitor::server::files::Rules { sessions: false, ..rig.settings.borrow().files.clone() };
    rig.settings.send_modify(|s| *s = std::sync::Arc::new(Settings { files: off, ..(**s).clone() }));
    assert_eq!(code(&get(&rig, "/api/file/read", inside).await), "outside_roots", "a reload closes it");
}
