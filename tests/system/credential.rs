//! The token of the machine's instance, as docs/operations.md has it: a file of root's, which systemd gives to the service as a
//! credential. With the real rights: the service runs as its own user, which cannot read that file.

use testkit::here;
use testkit::machine::{Machine, PORT, Scope};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const FILE: &str = "/etc/mpm-monitor/token";

/// The sample of the page in that language that has this text in it.
fn sample(language: &str, text: &str) -> String {
    let page = std::fs::read_to_string(here("docs/operations.md")).unwrap();
    let blocks = page.split("\n```").skip(1).step_by(2).filter_map(|b| b.split_once('\n'));
    let found = blocks.filter(|(l, t)| *l == language && t.contains(text)).map(|(_, t)| t.to_owned() + "\n");
    found.last().unwrap_or_else(|| panic!("docs/operations.md has no {language} with {text}"))
}

fn status_with(machine: &Machine, header: &str) -> String {
    // As a proxy would pass it on; what comes from this machine itself needs no token.
    let url = format!("http://127.0.0.1:{PORT}/api/events");
    let words = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "X-Forwarded-For: 192.0.2.1"];
    machine.run(&[&words[..], &["-H", "Host: monitor.example.org", "-H", header, &url]].concat()).ok().text().to_owned()
}

#[test]
fn token_of_root_reaches_the_service_as_a_credential() {
    let machine = boot!(Scope::System);
    machine.install(&[]);
    machine.write(machine.config_file(), &sample("toml", "allow_host"));
    machine.root(&["sh", "-c", &format!("umask 077; echo {TOKEN} > {FILE}")]).ok();

    // Without the credential the service cannot read it, and the doctor says so.
    machine.verb("restart", &[]).expect(78);
    let report = machine.verb("doctor", &["--port", "8765", "--json"]).expect(1).json();
    let checks = report["instances"][0]["checks"].as_array().unwrap();
    let token = checks.iter().find(|c| c["code"] == "token-file").unwrap();
    assert_eq!(token["outcome"], "failed", "{token:#}");
    assert!(token["summary"].as_str().unwrap().contains("mpm-monitor cannot read the token"), "{token:#}");

    machine.drop_in(PORT, &sample("ini", "LoadCredential"));
    machine.verb("restart", &[]).ok();
    assert_eq!(machine.root(&["stat", "-c", "%U %a", FILE]).ok().text(), "root 600");
    assert_eq!(machine.property(PORT, "User"), "mpm-monitor");
    assert_eq!(status_with(&machine, "Accept: */*"), "401");
    assert_eq!(status_with(&machine, "Authorization: Bearer another-token-of-32-characters-x"), "401");
    assert_eq!(status_with(&machine, &format!("Authorization: Bearer {TOKEN}")), "200");
    machine.verb("doctor", &["--port", "8765"]).ok();
}
