//! The commands that docs/bus.md names are those that the bus needs: no more, no less.

use std::time::Duration;

use crate::fleet::Node;
use crate::server::Server;
use testkit::daemon::SOON;
use testkit::{eventually, here};

/// The commands that the document tells the server's administrator to allow.
fn documented() -> Vec<String> {
    let text = std::fs::read_to_string(here("docs/bus.md")).expect("the document");
    let from = text.find("Redis from 6.2").expect("the paragraph");
    let paragraph = &text[from..from + text[from..].find(", on keys").expect("its end")];
    let words = paragraph.split('`').skip(1).step_by(2);
    words.map(str::to_lowercase).collect()
}

#[test]
fn a_user_with_the_commands_and_keys_of_the_document_is_enough() {
    let Some(server) = Server::start(&[]) else { return };
    let commands = documented();
    assert!(commands.len() > 15, "{commands:?}");
    let mut allow = vec!["ACL", "SETUSER", "monitor", "on", ">secret", "resetkeys", "~mpm-monitor:*", "nocommands"];
    let allowed: Vec<String> = commands.iter().map(|c| format!("+{c}")).collect();
    allow.extend(allowed.iter().map(String::as_str));
    assert_eq!(server.say(&allow), "OK");
    server.say(&["-n", "2", "HSET", "mpm-monitor:streams", "gone e", "7"]);
    server.say(&["CONFIG", "RESETSTAT"]);

    let url = format!("redis://monitor:secret@127.0.0.1:{}/2", server.port);
    let mut a = Node::serving("a", &url, &["bus.stream_events=100"]);
    let mut b = Node::serving("b", &url, &[]);
    a.until_connected();
    b.until_connected();
    a.post_many("before", 5);
    b.until_same_as(&a, SOON);
    // Stream, question, answer, the names of the gone, and the lease over its renewal and its end.
    b.stop();
    a.post_many("meanwhile", 400);
    a.until_published();
    b.up();
    b.until_same_as(&a, SOON);
    assert!(b.figure("gaps") >= 1);
    let calls = |command: &str| {
        let stats = server.say(&["INFO", "commandstats"]);
        let key = format!("cmdstat_{command}:calls=");
        stats.lines().find_map(|line| line.strip_prefix(&key)?.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    eventually(Duration::from_secs(20), "the lease to be renewed", || match calls("pexpire") {
        0 => Err(0),
        _ => Ok(()),
    });
    a.stop();
    let unused: Vec<&String> = commands.iter().filter(|c| calls(c) == 0).collect();
    assert!(unused.is_empty(), "named in the document and never said: {unused:?}");
    assert_eq!(server.say(&["ACL", "LOG"]), "", "something was refused");
}
