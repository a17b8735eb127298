//! The dashboard of an installed Claude MPM, served over real sockets from a folder laid out like its package.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::*;
use mpm_monitor::config::Settings;
use mpm_monitor::server::dashboard::Choice;

const SECRET: &str = "the-secret-outside-of-the-folder";
const PAGE: &str = "<!doctype html><script>start()</script><link rel=\"icon\" href=\"/favicon.svg\">";

/// A package in a folder of its own, with a secret beside it and above it.
struct Package {
    dir: tempfile::TempDir,
    large: String,
}

impl Package {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let large = "0123456789abcdef".repeat(20_000);
        let package = Self { dir, large };
        for (path, text) in [
            ("secret.txt", SECRET),
            ("claude_mpm/secret.txt", SECRET),
            ("claude_mpm/dashboard/secret.txt", SECRET),
            ("claude_mpm/dashboard/static/plain.txt", "plain"),
            ("claude_mpm/dashboard/static/svelte-build/index.html", PAGE),
            ("claude_mpm/dashboard/static/svelte-build/favicon.svg", "<svg/>"),
            ("claude_mpm/dashboard/static/svelte-build/_app/env.js", "export const env={}"),
            ("claude_mpm/dashboard/static/svelte-build/_app/immutable/chunks/C4Jy-Jte.js", "export const a=1"),
            ("claude_mpm/dashboard/static/svelte-build/_app/immutable/large.js", &package.large),
        ] {
            let path = package.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        package
    }

    fn path(&self, sub: &str) -> PathBuf {
        self.dir.path().join(sub)
    }

    fn app(&self) -> PathBuf {
        self.path("claude_mpm/dashboard/static/svelte-build/_app")
    }

    fn settings(&self) -> Settings {
        Settings { dashboard: Choice::At(self.path("claude_mpm")), ..settings() }
    }
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next()?;
    head.lines().find_map(|line| {
        let (n, value) = line.split_once(": ")?;
        n.eq_ignore_ascii_case(name).then_some(value)
    })
}

#[tokio::test]
async fn the_installed_dashboard_is_served_and_ours_stays_reachable() {
    let package = Package::new();
    let rig = start(package.settings());
    for (path, kind, text) in [
        ("/", "text/html; charset=utf-8", PAGE),
        ("/favicon.svg", "image/svg+xml", "<svg/>"),
        ("/_app/env.js", "text/javascript; charset=utf-8", "export const env={}"),
        ("/_app/immutable/chunks/C4Jy-Jte.js", "text/javascript; charset=utf-8", "export const a=1"),
        ("/_app/immutable/large.js", "text/javascript; charset=utf-8", &package.large),
        ("/static/plain.txt", "text/plain; charset=utf-8", "plain"),
        ("/static/svelte-build/favicon.svg", "image/svg+xml", "<svg/>"),
    ] {
        let answer = rig.ask("GET", path, "", "").await;
        assert_eq!((status(&answer), header(&answer, "content-type")), (200, Some(kind)), "{path}");
        assert!(body(&answer) == text, "{path}: {} bytes", body(&answer).len());
        assert_eq!(header(&answer, "content-length"), Some(&*text.len().to_string()), "{path}");
        assert_eq!(header(&answer, "x-content-type-options"), Some("nosniff"), "{path}");
        let policy = header(&answer, "content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'") && policy.starts_with("default-src 'none'"), "{policy}");
        let head = rig.ask("HEAD", path, "", "").await;
        assert_eq!((status(&head), body(&head)), (200, ""), "{path}");
        assert_eq!(header(&head, "content-length"), header(&answer, "content-length"), "{path}");
        assert_eq!(header(&head, "etag"), header(&answer, "etag"), "{path}");
        let modified = header(&answer, "last-modified").unwrap();
        assert!(modified.ends_with(" GMT") && modified.len() == 29, "{modified}");
    }
    // `printf 'start()' | openssl dgst -sha256 -binary | base64`
    let policy = header(&rig.ask("GET", "/", "", "").await, "content-security-policy").unwrap().to_owned();
    assert!(policy.contains("'sha256-DIm7WJS6ZKDYe5qFLPy+h4JFI9Bol5QmYC57mt3Fb00='"), "{policy}");
    let ours = rig.ask("GET", "/dashboard", "", "").await;
    assert!(status(&ours) == 200 && ours.contains("<title>mpm-monitor</title>"), "{ours}");
    for part in ["/dashboard.js", "/dashboard.css", "/dashboard.svg"] {
        assert_eq!(status(&rig.ask("GET", part, "", "").await), 200, "{part}");
    }
    for none in ["/_app", "/_app/", "/_app/immutable", "/static/", "/static/svelte-build", "/templates/index.html"] {
        let answer = rig.ask("GET", none, "", "").await;
        assert_eq!((status(&answer), &*code(&answer)), (404, "not_found"), "{none}");
    }
    assert_eq!(status(&rig.ask("POST", "/static/plain.txt", "", "x").await), 405);
}

#[tokio::test]
async fn without_the_setting_our_page_is_at_both_places() {
    let rig = start(settings());
    for path in ["/", "/dashboard"] {
        assert!(rig.ask("GET", path, "", "").await.contains("<title>mpm-monitor</title>"), "{path}");
    }
    assert_eq!(status(&rig.ask("GET", "/_app/env.js", "", "").await), 404);
}

#[tokio::test]
async fn what_is_named_by_its_content_is_cached_for_ever_and_the_rest_is_asked_for_again() {
    let package = Package::new();
    let rig = start(package.settings());
    let hashed = rig.ask("GET", "/_app/immutable/chunks/C4Jy-Jte.js", "", "").await;
    assert_eq!(header(&hashed, "cache-control"), Some("public, max-age=31536000, immutable"));
    for path in ["/", "/_app/env.js", "/static/plain.txt", "/static/svelte-build/_app/immutable/large.js"] {
        let answer = rig.ask("GET", path, "", "").await;
        assert_eq!(header(&answer, "cache-control"), Some("no-cache"), "{path}");
        let known = format!("If-None-Match: {}\r\n", header(&answer, "etag").unwrap());
        let again = rig.ask("GET", path, &known, "").await;
        assert_eq!((status(&again), body(&again)), (304, ""), "{path}");
        assert_eq!(header(&again, "etag"), header(&answer, "etag"));
    }
    // A new file under the name, of the same size and with the same time, as packages have them.
    let path = package.path("claude_mpm/dashboard/static/plain.txt");
    let before = rig.ask("GET", "/static/plain.txt", "", "").await;
    let times = std::fs::FileTimes::new().set_modified(path.metadata().unwrap().modified().unwrap());
    std::fs::write(package.path("new"), "PLAIN").unwrap();
    std::fs::File::options().write(true).open(package.path("new")).unwrap().set_times(times).unwrap();
    std::fs::rename(package.path("new"), &path).unwrap();
    let known = format!("If-None-Match: {}\r\n", header(&before, "etag").unwrap());
    let after = rig.ask("GET", "/static/plain.txt", &known, "").await;
    assert_eq!((status(&after), body(&after)), (200, "PLAIN"));
}

/// An upgrade of the package puts a new folder in the old one's place.
#[tokio::test]
async fn an_upgrade_of_the_package_needs_no_restart() {
    let package = Package::new();
    let rig = start(package.settings());
    std::fs::rename(package.path("claude_mpm"), package.path("old")).unwrap();
    let gone = rig.ask("GET", "/", "", "").await;
    assert_eq!((status(&gone), &*code(&gone)), (404, "not_found"));
    std::fs::rename(package.path("old"), package.path("claude_mpm")).unwrap();
    std::fs::write(package.app().join("../index.html"), "<script>newer()</script>").unwrap();
    let page = rig.ask("GET", "/", "", "").await;
    assert!(page.contains("newer()") && page.contains("'sha256-"), "{page}");
    let policy = header(&page, "content-security-policy").unwrap().to_owned();
    assert!(!policy.contains("DIm7WJS6ZKDYe5qFLPy"), "the hash is of the script that is there now: {policy}");
}

/// Paths as they are sent, none of which may give a byte from outside of the folder.
fn hostile(outside: &Path) -> Vec<Vec<u8>> {
    let file = outside.to_str().unwrap();
    let encoded = |separator: &str| file.replace('/', separator);
    let mut paths: Vec<Vec<u8>> = Vec::new();
    for prefix in ["/static/", "/_app/", "/templates/", "/"] {
        for rest in [
            file.to_owned(),
            "/etc/hostname".into(),
            "%2fetc%2fhostname".into(),
            "%2Fetc/hostname".into(),
            encoded("%2f"),
            encoded("%5c"),
            format!(".{file}"),
            format!("%2f{file}"),
            "../secret.txt".into(),
            "../../secret.txt".into(),
            "../../../secret.txt".into(),
            "../../../../secret.txt".into(),
            "..%2fsecret.txt".into(),
            "..%2f..%2fsecret.txt".into(),
            "..%2f..%2f..%2f..%2fsecret.txt".into(),
            "%2e%2e/secret.txt".into(),
            "%2e%2e/%2e%2e/secret.txt".into(),
            "%2e%2e%2f%2e%2e%2fsecret.txt".into(),
            ".%2e/.%2e/secret.txt".into(),
            "%2e./%2e./%2e./secret.txt".into(),
            "svelte-build/../../secret.txt".into(),
            "immutable/../../../../secret.txt".into(),
            "svelte-build/..%2f..%2fsecret.txt".into(),
            "./../secret.txt".into(),
            "%252e%252e/secret.txt".into(),
            "%252e%252e%252fsecret.txt".into(),
            "..%252f..%252fsecret.txt".into(),
            "%25252e%25252e%25252fsecret.txt".into(),
            "..\\secret.txt".into(),
            "..\\..\\secret.txt".into(),
            "..%5c..%5csecret.txt".into(),
            "..%255c..%255csecret.txt".into(),
            "%c0%ae%c0%ae/secret.txt".into(),
            "%c0%ae%c0%ae%c0%afsecret.txt".into(),
            "%e0%80%ae%e0%80%ae/secret.txt".into(),
            "%f0%80%80%ae%f0%80%80%ae/secret.txt".into(),
            "..%c0%afsecret.txt".into(),
            "..%e0%80%afsecret.txt".into(),
            "%uff0e%uff0e/secret.txt".into(),
            "%ef%bc%8e%ef%bc%8e/secret.txt".into(),
            "%u002e%u002e/secret.txt".into(),
            "..%00/secret.txt".into(),
            "../secret.txt%00.js".into(),
            "plain.txt%00/../../secret.txt".into(),
            "..;/secret.txt".into(),
            "..%09/secret.txt".into(),
            "..%0a/secret.txt".into(),
            "..%0d%0a/secret.txt".into(),
            ".../.../secret.txt".into(),
            "....//....//secret.txt".into(),
            "..//..//secret.txt".into(),
            "//secret.txt".into(),
            "../".repeat(40) + "etc/hostname",
            "..%2f".repeat(40) + "etc%2fhostname",
            "a/".repeat(200) + &"../".repeat(210) + "secret.txt",
            "x".repeat(5000),
            "%2e".repeat(3000),
            "link-out".into(),
            "link-absolute".into(),
            "link-folder/secret.txt".into(),
            "link-chain".into(),
            "link-proc/cwd".into(),
            "link-ring".into(),
            "pipe".into(),
            "~/secret.txt".into(),
            "%7e/secret.txt".into(),
            "file:%2f%2f%2fetc%2fhostname".into(),
            "C:%5cwindows".into(),
            "".into(),
            ".".into(),
            "..".into(),
            "%2e%2e".into(),
        ] {
            paths.push(format!("{prefix}{rest}").into_bytes());
        }
        paths.push([prefix.as_bytes(), b"\xc0\xae\xc0\xae/secret.txt"].concat());
        paths.push([prefix.as_bytes(), b"..\xff/secret.txt"].concat());
        paths.push([prefix.as_bytes(), b"..\x00/secret.txt"].concat());
    }
    for whole in ["http://localhost/static/../secret.txt", "//etc/hostname", "static/../secret.txt", "*"] {
        paths.push(whole.as_bytes().to_vec());
    }
    paths
}

#[tokio::test]
async fn no_path_leads_out_of_the_folder() {
    let package = Package::new();
    let outside = package.path("secret.txt");
    let hostname = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    for folder in [package.path("claude_mpm/dashboard/static"), package.app()] {
        symlink(&outside, folder.join("link-absolute")).unwrap();
        symlink("../../secret.txt", folder.join("link-out")).unwrap();
        symlink(package.dir.path(), folder.join("link-folder")).unwrap();
        symlink("link-absolute", folder.join("link-chain")).unwrap();
        symlink("/proc/self", folder.join("link-proc")).unwrap();
        symlink("link-ring", folder.join("link-ring")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap().success());
    }
    let rig = start(package.settings());
    let paths = hostile(&outside);
    assert!(paths.len() >= 240, "{}", paths.len());
    for path in &paths {
        for method in ["GET", "HEAD"] {
            let request =
                [method.as_bytes(), b" ", path, b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"].concat();
            let mut stream = rig.connect().await;
            tokio::io::AsyncWriteExt::write_all(&mut stream, &request).await.unwrap();
            let answer = to_end(&mut stream).await;
            let shown = String::from_utf8_lossy(path);
            assert!(!answer.contains(SECRET), "{shown} gave the secret");
            assert!(
                hostname.trim().is_empty() || !body(&answer).contains(hostname.trim()),
                "{shown} gave /etc/hostname"
            );
            // `/` and the forms of it are the page itself.
            let page = [b"/".as_slice(), b"/."].contains(&path.as_slice()) && body(&answer) == PAGE;
            let refused = (400..500).contains(&status(&answer));
            assert!(refused || page || (method == "HEAD" && path == b"/"), "{method} {shown}: {answer}");
        }
    }
}

/// A link that is put in the place of a file or a folder at any moment is never followed out.
#[test]
fn links_swapped_in_during_requests_give_nothing_from_outside() {
    let package = Package::new();
    let app = package.app();
    std::fs::create_dir_all(package.path("trap")).unwrap();
    std::fs::write(package.path("trap/C4Jy-Jte.js"), SECRET).unwrap();
    symlink(package.path("trap"), app.join("trap")).unwrap();
    let (chunks, trap) = (app.join("immutable/chunks"), app.join("trap"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rig = {
        let _inside = runtime.enter();
        start(package.settings())
    };
    let (done, mut seen) = (AtomicBool::new(false), (0, 0));
    std::thread::scope(|scope| {
        let swaps = scope.spawn(|| {
            let aside = app.join("aside");
            let mut swaps = 0_u32;
            while !done.load(Ordering::Relaxed) {
                for (from, to) in [(&chunks, &aside), (&trap, &chunks), (&chunks, &trap), (&aside, &chunks)] {
                    std::fs::rename(from, to).unwrap();
                    std::thread::yield_now();
                }
                swaps += 1;
            }
            swaps
        });
        runtime.block_on(async {
            // Until both states were met often.
            while seen.0 < 200 || seen.1 < 200 {
                let answer = rig.ask("GET", "/_app/immutable/chunks/C4Jy-Jte.js", "", "").await;
                assert!(!answer.contains(SECRET), "{answer}");
                match status(&answer) {
                    200 => seen.0 += 1,
                    404 => seen.1 += 1,
                    _ => panic!("{answer}"),
                }
            }
        });
        done.store(true, Ordering::Relaxed);
        assert!(swaps.join().unwrap() > 10);
    });
}

#[tokio::test]
async fn the_old_dashboard_is_served_with_the_sites_that_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("dashboard/templates/index.html", "<script>old()</script>"),
        ("dashboard/templates/code_simple.html", "<p>code"),
        ("dashboard/static/css/dashboard.css", "p{}"),
    ] {
        std::fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
        std::fs::write(dir.path().join(path), text).unwrap();
    }
    let rig = start(Settings { dashboard: Choice::At(dir.path().into()), ..settings() });
    for path in ["/", "/templates/code_simple.html"] {
        let answer = rig.ask("GET", path, "", "").await;
        let policy = header(&answer, "content-security-policy").unwrap_or_default();
        assert!(status(&answer) == 200 && policy.contains("https://d3js.org"), "{answer}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    }
    assert_eq!(body(&rig.ask("GET", "/static/css/dashboard.css", "", "").await), "p{}");
    assert_eq!(status(&rig.ask("GET", "/favicon.svg", "", "").await), 200);
    assert_eq!(status(&rig.ask("GET", "/_app/env.js", "", "").await), 404);
}
