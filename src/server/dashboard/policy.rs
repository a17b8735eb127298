//! What the pages of Claude MPM's dashboard may load and run.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

use super::find::Make;
use crate::config::settings::DEFAULT_PORT;

/// For files that are no page. Opened as one, a picture may look as it does, and run nothing.
pub const FILE: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                        frame-ancestors 'none'";
/// The libraries of the old dashboard.
const SITES: &str = "https://cdn.socket.io https://d3js.org https://cdnjs.cloudflare.com";

/// The policy of a page that is served on `port`. Of the scripts within a built page exactly those that stand in it now
/// may run, named by their hashes; the old one has too many ways to run some.
pub fn page(make: Make, html: &str, port: u16) -> String {
    let (scripts, sites) = match make {
        Make::Built => (inline_scripts(html).map(|s| format!(" {}", hash(s))).collect(), String::new()),
        Make::Templates => (" 'unsafe-inline'".to_owned(), format!(" {SITES}")),
    };
    // Its build asks localhost:8765 whatever it came from. Code is highlighted by a library in WebAssembly.
    let mut connect = format!("'self' http://localhost:{DEFAULT_PORT} ws://localhost:{DEFAULT_PORT}");
    if port != DEFAULT_PORT {
        connect.push_str(&format!(" http://localhost:{port} ws://localhost:{port}"));
    }
    format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'{scripts}{sites}; style-src 'self' 'unsafe-inline'{sites}; \
         img-src 'self' data:; font-src 'self' data:{sites}; connect-src {connect}; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

fn hash(script: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(script)))
}

/// The texts of the scripts that stand in the page itself.
fn inline_scripts(html: &str) -> impl Iterator<Item = &str> {
    html.split("<script").skip(1).filter_map(|rest| {
        let (attributes, rest) = rest.split_once('>')?;
        (!attributes.contains("src=")).then(|| rest.split("</script").next())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_scripts_in_the_page_are_named() {
        let html = "<script src=\"/a.js\"></script><p><script>alert(1)</script><script type=\"module\">x</script>";
        assert_eq!(inline_scripts(html).collect::<Vec<_>>(), ["alert(1)", "x"]);
        let policy = page(Make::Built, html, 8765);
        // As `printf 'alert(1)' | openssl dgst -sha256 -binary | base64` says it.
        assert!(policy.contains("'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='"), "{policy}");
        assert!(!policy.contains("script-src 'self' 'unsafe-inline'") && policy.contains("frame-ancestors 'none'"));
        assert_eq!(policy.matches("'sha256-").count(), 2);
        let other = page(Make::Templates, html, 8766);
        assert!(other.contains("https://d3js.org") && other.contains("ws://localhost:8766"), "{other}");
        assert!(other.contains("frame-ancestors 'none'"));
    }
}
