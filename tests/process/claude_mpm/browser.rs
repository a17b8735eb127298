//! A real Chromium looks at the dashboard that Claude MPM installs, served by us, and at our own page.

use std::fs;

use serde_json::{Value, json};

use super::net::{Net, URL, package};
use testkit::command::Running;
use testkit::daemon::{SOON, signal};
use testkit::{eventually, skip};

struct Browser(Running);

impl Browser {
    #[track_caller]
    fn start(net: &Net) -> Option<Self> {
        let profile = net.path("profile");
        let mut browser = Running::start(&mut net.client("browser.py", &[profile.to_str().unwrap()]));
        let found = browser.until(SOON, "a browser", |line| {
            line.contains("\"ready\"").then_some(true).or(line.contains("FileNotFoundError").then_some(false))
        });
        if !found {
            skip("there is no chromium; scripts/setup.sh test installs it");
            return None;
        }
        Some(Self(browser))
    }

    #[track_caller]
    fn ask(&mut self, command: &Value) -> Value {
        self.0.say(&command.to_string());
        self.0.until(SOON, "an answer of the browser", |line| serde_json::from_str::<Value>(line).ok())
    }

    #[track_caller]
    fn open(&mut self, path: &str) {
        assert_eq!(self.ask(&json!({"open": format!("{URL}{path}")})), json!({}));
    }

    #[track_caller]
    fn eval(&mut self, expression: &str) -> Value {
        let told = self.ask(&json!({"eval": expression}));
        assert!(told.get("error").is_none(), "{expression}: {told}");
        told["value"].clone()
    }

    /// Waits until the page shows this text; all that it shows.
    #[track_caller]
    fn shows(&mut self, text: &str) -> String {
        eventually(SOON, &format!("{text:?} in the page"), || {
            let shown = self.eval("document.body.innerText").as_str().unwrap_or_default().to_owned();
            if shown.contains(text) { Ok(shown) } else { Err(shown) }
        })
    }

    /// What the console complains of, but for those that have this in them.
    #[track_caller]
    fn troubles(&mut self, expected: &str) -> Vec<String> {
        let told = self.ask(&json!({"troubles": true}));
        let troubles =
            told["value"].as_array().expect("a list").iter().map(|t| t.as_str().unwrap_or_default().to_owned());
        troubles.filter(|trouble| expected.is_empty() || !trouble.contains(expected)).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It takes the browser's many processes along, which a kill would leave.
        self.0.end(SOON);
    }
}

fn event(subtype: &str, session: &str, data: Value) -> Value {
    json!({"namespace": "", "event": "claude_event", "data": {
        "event": "mpm_event", "source": "hook", "type": "hook", "subtype": subtype, "session_id": session,
        "cwd": "/home/u/project", "timestamp": jiff::Timestamp::now().to_string(), "data": data}})
}

#[test]
fn the_installed_dashboard_shows_what_was_and_what_comes_and_finds_us_again() {
    let Some(net) = Net::new() else { return };
    let package = package();
    let served = ["--dashboard-dir", package.to_str().unwrap()];
    let mut monitor = net.monitor(&served);
    assert_eq!(net.post(&event("pre_tool", "session-before", json!({"tool_name": "Bash"}))), "204");
    let Some(mut browser) = Browser::start(&net) else { return };
    browser.open("/");
    browser.shows("session-before");
    let shown = browser.shows("Connected");
    assert!(shown.contains("Claude MPM Monitor"), "{shown}");
    for (subtype, session) in
        [("pre_tool", "session-tool"), ("user_prompt", "session-prompt"), ("stop", "session-stop")]
    {
        assert_eq!(net.post(&event(subtype, session, json!({"tool_name": "Read", "session_id": session}))), "204");
        browser.shows(session);
    }
    assert_eq!(browser.troubles(""), Vec::<String>::new(), "its policy must allow what it needs");

    // It keeps events in the browser, draws them under their ids, and stops to draw when one comes twice.
    browser.open("/");
    browser.shows("session-stop");
    browser.shows("Connected");
    assert_eq!(net.post(&event("pre_tool", "session-reloaded", json!({"tool_name": "Bash"}))), "204");
    browser.shows("session-reloaded");
    assert_eq!(browser.troubles(""), Vec::<String>::new(), "an event that it kept must not come under the same id");

    // Nothing of what it keeps in the browser: what it shows then is what we tell.
    browser.eval("localStorage.clear()");
    browser.open("/");
    let shown = browser.shows("session-stop");
    assert!(["session-before", "session-tool", "session-prompt"].iter().all(|s| shown.contains(s)), "{shown}");

    signal(monitor.pid(), "TERM");
    assert_eq!(monitor.end(SOON), 0);
    eventually(SOON, "a page that knows it is cut off", || {
        let shown = browser.eval("document.body.innerText").as_str().unwrap_or_default().to_owned();
        if shown.contains("\nConnected\n") { Err(shown) } else { Ok(()) }
    });
    let _monitor = net.monitor(&served);
    browser.shows("\nConnected\n");
    assert_eq!(net.post(&event("pre_tool", "session-after", json!({"tool_name": "Bash"}))), "204");
    browser.shows("session-after");
    // While nobody listened it could not connect, and says so; but for that, silence.
    assert_eq!(browser.troubles("ERR_CONNECTION_REFUSED"), Vec::<String>::new());
}

/// Who may not even read is asked for the token, and let in with it, by the form and by a link.
#[test]
fn our_own_page_asks_for_the_token_where_one_is_needed() {
    use std::os::unix::fs::PermissionsExt;
    let Some(net) = Net::new() else { return };
    let path = net.path("token");
    fs::write(&path, "0123456789abcdef").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = format!("access.token_file={}", path.display());
    let _monitor = net.monitor(&["--set", &file, "--set", "access.local=none"]);
    let Some(mut browser) = Browser::start(&net) else { return };
    let enter = |token: &str| {
        format!("document.querySelector('#token').value = '{token}'; document.querySelector('#door button').click()")
    };
    browser.open("/");
    browser.shows("this needs the token");
    assert!(!browser.shows("Token").contains("live"));
    browser.eval(&enter("not-the-token-at-all"));
    browser.shows("That is not the token");
    browser.eval(&enter("0123456789abcdef"));
    browser.shows("live");
    assert_eq!(browser.eval("document.querySelector('#door').hidden"), true);
    browser.eval("sessionStorage.clear()");
    browser.open("/dashboard#token=0123456789abcdef");
    browser.shows("live");
    assert_eq!(browser.eval("location.href"), format!("{URL}/dashboard"), "the token is not left in the address");
    // That it was refused at first is what the console says, and nothing else.
    assert_eq!(browser.troubles("401"), Vec::<String>::new());
}

#[test]
fn our_own_page_shows_events_as_text_whatever_is_in_them() {
    let Some(net) = Net::new() else { return };
    let mut monitor = net.monitor(&[]);
    let hostile = "<img src=x onerror=\"document.title='taken over'\"><script>document.title='taken over'</script>";
    let post = |subtype: &str, session: &str, text: &str| {
        let data =
            json!({"tool_name": text, "tool_parameters": {"command": text}, "prompt_text": text, "message": text});
        assert_eq!(net.post(&event(subtype, session, data)), "204");
    };
    post("pre_tool", "session-before", "Bash");
    let Some(mut browser) = Browser::start(&net) else { return };
    for path in ["/", "/dashboard"] {
        browser.open(path);
        browser.shows("session-before");
        browser.shows("live");
    }
    for (number, subtype) in ["pre_tool", "user_prompt", "notification", hostile].iter().enumerate() {
        post(subtype, &format!("live-{number}"), hostile);
        browser.shows(&format!("live-{number}"));
        // The detail of it, too.
        browser.eval("document.querySelector('#events tr').click()");
    }
    post("pre_tool", hostile, hostile);
    let shown = browser.shows("<img src=x onerror=");
    assert!(shown.contains("<script>document.title"), "{shown}");
    assert_eq!(browser.eval("document.querySelectorAll('img, main script').length"), 0);
    assert_eq!(browser.eval("document.title"), "mpm-monitor");
    assert_eq!(browser.troubles(""), Vec::<String>::new());

    browser.open("/dashboard");
    let shown = browser.shows("live-3");
    assert!(shown.contains("session-before"), "the past is there after a reload: {shown}");
    signal(monitor.pid(), "TERM");
    assert_eq!(monitor.end(SOON), 0);
    eventually(SOON, "a page that knows it is cut off", || {
        let state = browser.eval("document.querySelector('#state').textContent");
        if state == "live" { Err(state) } else { Ok(()) }
    });
    let _monitor = net.monitor(&[]);
    post("pre_tool", "session-after", "Bash");
    browser.shows("session-after");
    eventually(SOON, "a page that is live again", || {
        let state = browser.eval("document.querySelector('#state').textContent");
        if state == "live" { Ok(()) } else { Err(state) }
    });
    let shot = net.path("page.png");
    browser.ask(&json!({"shot": shot}));
    assert!(fs::metadata(shot).unwrap().len() > 5_000);
}
