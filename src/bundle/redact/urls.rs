//! What gives access in URLs: user and password, and the paths of webhooks. Parameters are names, see `named`.

use std::ops::Range;

use super::text::boundary;

/// What is behind one of these in a URL gives access to a service.
const HOOKS: [&str; 15] = [
    "hooks.slack.com/services/",
    "hooks.slack.com/workflows/",
    "hooks.slack.com/triggers/",
    "/api/webhooks/",
    "api.telegram.org/bot",
    "webhook.office.com/webhookb2/",
    "outlook.office.com/webhook/",
    "hooks.zapier.com/hooks/",
    "/with/key/",
    "/open-apis/bot/v2/hook/",
    "hc-ping.com/",
    "hook.integromat.com/",
    "hook.us1.make.com/",
    "events.pagerduty.com/integration/",
    "webhook.site/",
];

/// How far a URL is looked at.
const LONGEST: usize = 8192;

/// Adds to `found` where the secret parts of URLs stand in the text.
pub fn find(text: &str, found: &mut Vec<Range<usize>>) {
    without_scheme(text, found);
    for (n, sign) in text.match_indices("://") {
        let from = n + sign.len();
        let url = &text[from..boundary(text, from + LONGEST)];
        let url =
            url.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '`')).next().unwrap_or_default();
        let end = from + url.len();
        // A password may hold `/`, `?`, `#` and `@`: then the last `@` is the one before the host.
        let authority = url.find(['/', '?', '#']).unwrap_or(url.len());
        let at = match url.rfind('@') {
            Some(at) if at < authority || url[..at].find(':').is_some_and(|colon| colon <= authority) => Some(at),
            _ => url[..authority].rfind('@'),
        };
        if let Some(at) = at.filter(|at| *at > 0) {
            found.push(from..from + at);
        }
        if let Some(hook) =
            HOOKS.iter().find_map(|h| url.find(h).map(|n| from + n + h.len())).filter(|hook| *hook < end)
        {
            found.push(hook..end);
        }
    }
}

/// `user:PASSWORD@host`.
fn without_scheme(text: &str, found: &mut Vec<Range<usize>>) {
    let is_break =
        |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '(' | '[' | '{' | ',' | ';' | '=' | '`');
    let mut last = 0;
    for (at, _) in text.match_indices('@') {
        let start = text[last..at].rfind(is_break).map_or(last, |n| last + n + 1);
        let start = (start..at).find(|n| text.is_char_boundary(*n)).unwrap_or(at);
        last = at;
        let word = text[start..at].trim_start_matches('/');
        let Some((user, password)) = word.split_once(':') else { continue };
        let is_user = !user.is_empty() && user.chars().all(|c| c.is_ascii_alphanumeric() || "._%+-".contains(c));
        if is_user
            && !password.is_empty()
            && !password.starts_with("//")
            && text[at + 1..].starts_with(|c: char| c.is_ascii_alphanumeric())
        {
            found.push(at - password.len()..at);
        }
    }
}
