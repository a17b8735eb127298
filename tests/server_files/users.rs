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
        let why = "needs root and setpriv, to ask as another user";
        assert!(std::env::var_os("MPM_MONITOR_TESTS_MUST_RUN").is_none(), "this test must run here, but: {why}");
        return println!("SKIP: {why}");
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
