//! Files are one user's; loopback is everybody's.

use std::path::Path;
use std::process::{Command, Stdio};

use mpm_monitor::config::{LocalAccess, Token};
use mpm_monitor::server::files::Rules;

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// What curl got, run as another user than the server.
async fn stranger(arguments: &[&str]) -> String {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "curl", "-s", "--max-time", "20"]);
    command.args(arguments).current_dir("/").stdin(Stdio::null());
    let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[tokio::test]
async fn another_user_of_this_machine_reads_nothing_without_the_token() {
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/setpriv").exists() {
        return testkit::skip("needs root and setpriv, to ask as another user");
    }
    let place = Place::new();
    place.repository("root/proj");
    let rig = start(place.settings());
    let base = format!("http://{}", rig.address);
    let file = encoded(&place.root("a.txt"));
    let reading = format!("{base}/api/file/read?path={file}");
    let asked = serde_json::json!({"path": place.root("a.txt")}).to_string();
    let questions: [(&str, &[&str]); 5] = [
        ("read", &[&reading]),
        ("list", &[&format!("{base}/api/files?path={}", encoded(&place.root("")))]),
        ("diff", &[&format!("{base}/api/file/diff?path={}", encoded(&place.root("proj/a.txt")))]),
        ("file", &["-d", &asked, &format!("{base}/api/file")]),
        ("history", &["-d", &asked, &format!("{base}/api/git-history")]),
    ];
    for (what, arguments) in questions {
        let answer: Value = serde_json::from_str(&stranger(arguments).await).unwrap();
        assert_eq!((answer["success"].as_bool(), answer["code"].as_str()), (Some(false), Some("other_user")), "{what}");
    }
    // What is not the user's own is as it was.
    assert!(stranger(&[&format!("{base}/api/status")]).await.contains("uptime"));
    assert_eq!(status(&rig.ask("GET", &format!("/api/file/read?path={file}"), "", "").await), 200, "we ourselves");

    // The same over Socket.IO, and a session's key is no way in either: it tells nothing about who took it.
    let door = format!("{base}/socket.io/?EIO=4&transport=polling");
    let opened = stranger(&[&door]).await;
    let sid: Value = serde_json::from_str(opened.strip_prefix('0').unwrap()).unwrap();
    let session = format!("{door}&sid={}", sid["sid"].as_str().unwrap());
    let question = format!("42{}", serde_json::json!(["read_file", {"file_path": place.root("a.txt")}]));
    assert_eq!(stranger(&["-d", "40", &session]).await, "ok");
    assert_eq!(stranger(&["-d", &question, &session]).await, "ok");
    let mut heard = String::new();
    while !heard.contains("file_content_response") {
        heard = stranger(&[&session]).await;
    }
    assert!(heard.contains("other_user") && !heard.contains("hello"), "{heard}");

    // Whoever has the token is known, and who wants it as the original has it may say so.
    let open = Rules { other_users: true, ..place.rules() };
    rig.settings.send_replace(std::sync::Arc::new(Settings { files: open, ..settings() }));
    assert!(stranger(&[&reading]).await.contains("hello"));
    let token = Some(Token::new(TOKEN).unwrap());
    let guarded = Settings { token, local: LocalAccess::Read, ..place.settings() };
    rig.settings.send_replace(std::sync::Arc::new(guarded));
    assert!(stranger(&[&reading]).await.contains("other_user"));
    assert!(stranger(&["-H", &format!("Authorization: Bearer {TOKEN}"), &reading]).await.contains("hello"));
}

#[tokio::test]
async fn pages_of_other_origins_get_no_files() {
    let place = Place::new();
    place.repository("root/proj");
    let rig = start(place.settings());
    let (file, proj) = (encoded(&place.root("a.txt")), encoded(&place.root("proj/a.txt")));
    let asked = serde_json::json!({"path": place.root("a.txt")}).to_string();
    let questions = [
        ("GET", format!("/api/file/read?path={file}"), ""),
        ("GET", format!("/api/files?path={}", encoded(&place.root(""))), ""),
        ("GET", format!("/api/file/diff?path={proj}"), ""),
        ("POST", "/api/file".to_owned(), &*asked),
        ("POST", "/api/git-history".to_owned(), &*asked),
    ];
    let foreign = ["Origin: http://localhost:9999", "Origin: http://127.0.0.1:8765", "Sec-Fetch-Site: same-site"];
    let own = ["Origin: http://localhost", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: none", "X-None: 1"];
    for (method, path, body) in questions {
        for header in foreign {
            let answer = rig.ask(method, &path, &format!("{header}\r\n"), body).await;
            assert_eq!((status(&answer), &*code(&answer)), (403, "foreign_page"), "{path} {header}");
        }
        for header in own {
            let answer = rig.ask(method, &path, &format!("{header}\r\n"), body).await;
            assert_eq!(status(&answer), 200, "{path} {header}: {answer}");
        }
    }
    // An origin that the user listed is as our own, and everything else is as it was for the others.
    let listed = Settings { allow_origin: vec!["http://localhost:9999".to_owned()], ..place.settings() };
    assert_eq!(status(&rig.ask("GET", "/api/events", "Origin: http://localhost:9999\r\n", "").await), 200);
    rig.settings.send_replace(std::sync::Arc::new(listed));
    let answer = rig.ask("GET", &format!("/api/file/read?path={file}"), "Origin: http://localhost:9999\r\n", "").await;
    assert_eq!(status(&answer), 200, "{answer}");
}

#[tokio::test]
async fn a_socket_opened_by_a_page_of_another_origin_gets_no_files() {
    let place = Place::new();
    let rig = start(place.settings());
    for (origin, refused) in [("http://localhost:9999", true), ("http://localhost", false)] {
        let origin = format!("Origin: {origin}\r\n");
        let door = "/socket.io/?EIO=4&transport=polling";
        let opened = rig.ask("GET", door, &origin, "").await;
        let open: Value = serde_json::from_str(body(&opened).strip_prefix('0').unwrap()).unwrap();
        let session = format!("{door}&sid={}", open["sid"].as_str().unwrap());
        let question = format!("42{}", serde_json::json!(["read_file", {"file_path": place.root("a.txt")}]));
        for packet in ["40", &question] {
            assert_eq!(body(&rig.ask("POST", &session, &origin, packet).await), "ok");
        }
        let mut heard = String::new();
        while !heard.contains("file_content_response") {
            heard = rig.ask("GET", &session, &origin, "").await;
        }
        // A polling client is only known by the connection that it began on; this one closed it.
        let code = if refused { "foreign_page" } else { "other_user" };
        assert!(heard.contains(code), "{origin}{heard}");
    }
}

/// What the copies of a file's two contents can be read by while git compares them.
#[tokio::test]
async fn copies_for_git_are_for_the_user_alone() {
    let place = Place::new();
    place.repository("root/proj");
    // Tells how its folder and the files in it look, when it is to compare; is git for all the rest.
    let seen = place.path("seen");
    let script = format!(
        "case \"$*\" in *--no-index*) umask; pwd; stat -c '%a %n' . old new ;; esac >> {} \nexec git \"$@\"",
        seen.display()
    );
    let rig = start(stand_in(&place, &script));
    let answer = get(&rig, "/api/file/diff", &place.root("proj/a.txt")).await;
    assert!(json_of(&answer)["diff"].as_str().unwrap().contains("+change"), "{answer}");
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(seen.contains("700 .") && seen.contains("600 old") && seen.contains("600 new"), "{seen}");
    assert!(seen.contains(&place.path("state").display().to_string()), "{seen}");
    let scratch = place.path("state/scratch");
    assert_eq!(std::fs::metadata(&scratch).unwrap().permissions().mode() & 0o777, 0o700);
    let left = || std::fs::read_dir(&scratch).unwrap().count();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while left() > 0 {
        assert!(std::time::Instant::now() < deadline, "{} folders are left", left());
        tokio::task::yield_now().await;
    }
}
