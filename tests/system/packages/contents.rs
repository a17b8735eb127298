//! What is in the packages, and what lintian, rpmlint and the readers of manual pages say of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{DEADLINE, NEW, files, has, package, sh};
use testkit::command::run;
use testkit::{here, program};

/// The paths that only the distributions' habits make different, as one.
fn alike(paths: &[String]) -> Vec<String> {
    let mut all: Vec<String> = paths
        .iter()
        .filter(|p| {
            !["/usr/share/doc/", "/usr/share/licenses/", "/usr/share/lintian/"].iter().any(|d| p.starts_with(d))
        })
        .map(|p| p.trim_end_matches(".gz").replace("/vendor-completions/", "/site-functions/"))
        .collect();
    all.sort();
    all
}

fn extracted(deb: &Path, into: &Path) {
    sh(&["dpkg-deb", "-x", deb.to_str().unwrap(), into.to_str().unwrap()]).ok();
}

#[test]
fn a_deb_has_everything_and_lintian_finds_no_fault() {
    if !has(&["dh", "lintian", "mandoc", "man"]) {
        return;
    }
    let (out, deb) = package("deb", NEW);
    let root = out.path().join("root");
    extracted(&deb, &root);
    // The units are the very files of this tree, which `install` renders from, too.
    for (installed, shipped) in [
        ("usr/lib/systemd/system/mpm-monitor@.service", "systemd/mpm-monitor@.service"),
        ("usr/lib/systemd/system/mpm-monitor@.socket", "systemd/mpm-monitor@.socket"),
        ("usr/lib/systemd/user/mpm-monitor@.service", "systemd/user/mpm-monitor@.service"),
        ("usr/lib/systemd/user/mpm-monitor@.socket", "systemd/mpm-monitor@.socket"),
        ("usr/lib/sysusers.d/mpm-monitor.conf", "systemd/mpm-monitor.sysusers"),
    ] {
        assert_eq!(fs::read_to_string(root.join(installed)).unwrap(), fs::read_to_string(here(shipped)).unwrap());
    }
    let example = sh(&[&program(), "config", "example"]).ok().stdout;
    assert_eq!(fs::read_to_string(root.join("etc/mpm-monitor/config.toml")).unwrap(), example);
    sh(&["bash", "-n", root.join("usr/share/bash-completion/completions/mpm-monitor").to_str().unwrap()]).ok();

    let pages: Vec<String> = files(&root).into_iter().filter(|p| p.starts_with("/usr/share/man/")).collect();
    assert!(pages.iter().any(|p| p.ends_with("man1/mpm-monitor.1.gz")), "{pages:?}");
    assert!(pages.iter().any(|p| p.ends_with("man5/mpm-monitor.5.gz")), "{pages:?}");
    for page in &pages {
        let page = format!("{}{page}", root.display());
        let mut man = Command::new("man");
        man.args(["--warnings=w", "-E", "UTF-8", "-Tutf8", "-Z", "-l", &page])
            .env("MANWIDTH", "80")
            .env("LC_ALL", "C.UTF-8");
        let read = run(&mut man, DEADLINE).ok();
        assert_eq!(read.stderr, "", "groff on {page}");
        let linted = sh(&["mandoc", "-T", "lint", "-W", "error", &page]);
        assert!(linted.code == 0 && linted.stdout.is_empty(), "{linted}");
    }

    // Faults and warnings alike; what is overridden says why in the package itself.
    let linted = sh(&["lintian", "--fail-on", "error,warning", "--allow-root", deb.to_str().unwrap()]);
    assert!(linted.code == 0 && linted.stdout.is_empty(), "{linted}");
    println!("{} files, {} pages, {} bytes", files(&root).len(), pages.len(), fs::metadata(&deb).unwrap().len());
}

#[test]
fn the_packages_have_the_same_files_and_each_comes_out_the_same_twice() {
    if !has(&["dh", "rpmbuild", "rpm"]) {
        return;
    }
    let (out, deb) = package("deb", NEW);
    let root = out.path().join("root");
    extracted(&deb, &root);
    let debian = alike(&files(&root));
    assert!(debian.contains(&"/usr/bin/mpm-monitor".to_owned()) && debian.len() > 20, "{debian:?}");

    let (_out, rpm) = package("rpm", NEW);
    let listed = sh(&["rpm", "-qp", "--qf", "[%{FILEMODES:perms} %{FILENAMES}\n]", rpm.to_str().unwrap()]).ok();
    let listed: Vec<String> = listed
        .stdout
        .lines()
        .filter(|l| !l.starts_with('d'))
        .filter_map(|l| Some(l.split_once(' ')?.1.to_owned()))
        .collect();
    assert_eq!(alike(&listed), debian, "the rpm against the deb");

    // Arch's package function, in a folder that looks like one that makepkg has built in.
    let arch = tempfile::tempdir().unwrap();
    let (src, pkg) = (arch.path().join("src"), arch.path().join("pkg"));
    let tree = src.join(format!("mpm-monitor-{NEW}"));
    fs::create_dir_all(tree.join("target/dist")).unwrap();
    std::os::unix::fs::symlink(program(), tree.join("target/dist/mpm-monitor")).unwrap();
    for name in ["systemd", "README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        std::os::unix::fs::symlink(here(name), tree.join(name)).unwrap();
    }
    let url = "https://example.org/mpm-monitor.tar.gz";
    let filled = [&here("packaging/homebrew/render.sh"), "https://example.org/", url, &here("Cargo.toml")];
    let text = sh(&[&filled[..], &[&here("packaging/arch/PKGBUILD.in")]].concat()).ok().stdout;
    let file = arch.path().join("PKGBUILD");
    fs::write(&file, text).unwrap();
    let script = "set -eu; srcdir=$2 pkgdir=$3; . \"$1\"; cd \"$srcdir\"; (check) >/dev/null; (package); echo \"$pkgver $install\"";
    let paths = [&file, &src, &pkg].map(|p| p.to_str().unwrap());
    let packed =
        run(Command::new("bash").args(["-c", script, "bash"]).args(paths).env("HOME", arch.path()), DEADLINE).ok();
    assert_eq!(packed.text().lines().last(), Some(&*format!("{NEW} mpm-monitor.install")));
    assert_eq!(alike(&files(&pkg)), debian, "Arch's against the deb");
    sh(&["bash", "-n", &here("packaging/arch/mpm-monitor.install")]).ok();

    for (kind, first) in [("deb", &deb), ("rpm", &rpm)] {
        let (_out, second) = package(kind, NEW);
        assert_eq!(first.file_name(), second.file_name());
        let (first, second) = (fs::read(first).unwrap(), fs::read(second).unwrap());
        assert!(first == second, "two builds of the same {kind} differ");
        println!("{kind}: {} bytes, twice the same", first.len());
    }
}

#[test]
fn rpmlint_finds_no_fault() {
    if !has(&["rpmbuild", "rpmlint"]) {
        return;
    }
    let (_out, rpm) = package("rpm", NEW);
    let linted = sh(&["rpmlint", "-c", &here("packaging/rpm/rpmlint.toml"), rpm.to_str().unwrap()]).ok();
    let summary = linted.stdout.lines().last().unwrap_or_default();
    println!("{summary}");
    assert!(summary.contains("0 errors, 0 warnings"), "{linted}");
}
