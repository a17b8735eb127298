//! Repositories that are hostile: they run nothing, and show nothing from outside of the roots.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::*;

/// All questions about a file, and the diff of a commit.
async fn ask_all(rig: &Rig, file: &str) -> Vec<String> {
    let mut answers = Vec::new();
    for commit in ["HEAD", "main", "side"] {
        let path = format!("/api/file/diff?path={}&commit={commit}", encoded(file));
        answers.push(rig.ask("GET", &path, "", "").await);
    }
    answers.push(get(rig, "/api/file/diff", file).await);
    answers.push(post(rig, "/api/git-history", file).await);
    answers.push(get(rig, "/api/file/read", file).await);
    answers.push(get(rig, "/api/files", file.rsplit_once('/').unwrap().0).await);
    answers
}

/// Each setting and file through which a repository can make git run something, with the mark that it leaves.
fn set_traps(place: &Place, repository: &str) {
    let marks = place.path("marks");
    std::fs::create_dir_all(&marks).unwrap();
    let trap = |name: &str| format!("touch {}/{name}; cat", marks.display());
    place.write(&format!("{repository}/.gitattributes"), b"* filter=evil diff=evil merge=evil text\n");
    place.write(&format!("{repository}/.git/info/attributes"), b"* filter=evil diff=evil\n");
    let mut settings = vec![
        ("core.fsmonitor", trap("fsmonitor")),
        ("core.pager", trap("pager")),
        ("core.editor", trap("editor")),
        ("core.sshCommand", trap("ssh")),
        ("core.gitProxy", trap("proxy")),
        ("core.askPass", trap("askpass")),
        ("core.alternateRefsCommand", trap("alternates")),
        ("core.hooksPath", place.path(&format!("{repository}/hooks")).display().to_string()),
        ("core.untrackedCache", "true".into()),
        ("credential.helper", format!("!{}", trap("credential"))),
        ("diff.external", trap("external")),
        ("diff.evil.command", trap("driver")),
        ("diff.evil.textconv", trap("textconv")),
        ("diff.submodule", "diff".into()),
        ("filter.evil.clean", trap("clean")),
        ("filter.evil.smudge", trap("smudge")),
        ("filter.evil.process", trap("process")),
        ("filter.evil.required", "true".into()),
        ("gpg.program", place.path(&format!("{repository}/hooks/gpg")).display().to_string()),
        ("log.showSignature", "true".into()),
        ("interactive.diffFilter", trap("interactive")),
        ("sequence.editor", trap("sequence")),
        ("uploadpack.packObjectsHook", trap("pack")),
        ("gc.auto", "1".into()),
        ("extensions.partialClone", "origin".into()),
        ("remote.origin.promisor", "true".into()),
        ("remote.origin.url", format!("ext::sh -c touch% {}/fetch", marks.display())),
        ("protocol.ext.allow", "always".into()),
        ("diff.noprefix", "true".into()),
        ("color.ui", "always".into()),
        ("format.pretty", "%GG".into()),
        ("diff.orderFile", "/etc/passwd".into()),
        ("mailmap.file", "/etc/passwd".into()),
    ];
    for verb in ["log", "show", "diff", "ls-files", "ls-tree", "cat-file", "rev-parse"] {
        settings.push((Box::leak(format!("pager.{verb}").into_boxed_str()), trap(&format!("pager-{verb}"))));
        settings.push((
            Box::leak(format!("alias.{verb}").into_boxed_str()),
            format!("!{}", trap(&format!("alias-{verb}"))),
        ));
    }
    for (name, value) in settings {
        place.git(repository, &["config", name, &value]);
    }
    for hook in
        ["post-index-change", "pre-commit", "post-checkout", "reference-transaction", "fsmonitor-watchman", "gpg"]
    {
        for folder in ["hooks", ".git/hooks"] {
            let path = place.path(&format!("{repository}/{folder}/{hook}"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, format!("#!/bin/sh\ntouch {}/hook-{hook}\n", marks.display())).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}

fn marks(place: &Place) -> Vec<String> {
    let mut marks: Vec<String> = std::fs::read_dir(place.path("marks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    marks.sort();
    marks
}

#[tokio::test]
async fn a_hostile_repository_runs_nothing() {
    let place = Place::new();
    let rig = start(place.settings());
    place.repository("root/evil");
    place.git("root/evil", &["branch", "side"]);
    // A commit that claims to be signed, so that whoever shows signatures asks gpg.
    let tree = place.git("root/evil", &["rev-parse", "HEAD^{tree}"]);
    let parent = place.git("root/evil", &["rev-parse", "HEAD"]);
    let who = "t <t@example.org> 1700000000 +0000";
    let signed = format!(
        "tree {}\nparent {}\nauthor {who}\ncommitter {who}\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\nsigned\n",
        tree.trim(),
        parent.trim()
    );
    place.write("signed", signed.as_bytes());
    let signed = place.path("signed");
    let number = place.git("root/evil", &["hash-object", "-t", "commit", "-w", signed.to_str().unwrap()]);
    place.git("root/evil", &["update-ref", "refs/heads/main", number.trim()]);
    // A file whose content is not there, as in a clone that fetches when it is asked.
    place.write("root/evil/gone.txt", b"gone\n");
    place.git("root/evil", &["add", "gone.txt"]);
    place.git("root/evil", &["commit", "-q", "-m", "gone"]);
    let blob = place.git("root/evil", &["rev-parse", "HEAD:gone.txt"]);
    let object = format!("root/evil/.git/objects/{}/{}", &blob[..2], blob[2..].trim());
    std::fs::remove_file(place.path(&object)).unwrap();
    place.write("root/evil/gone.txt", b"other\n");
    set_traps(&place, "root/evil");

    let mut answers = ask_all(&rig, &place.root("evil/a.txt")).await;
    answers.extend(ask_all(&rig, &place.root("evil/gone.txt")).await);
    assert_eq!(marks(&place), Vec::<String>::new(), "git ran something of the repository's");
    assert!(answers.iter().all(|answer| status(answer) == 200), "{answers:#?}");
    let diff = json_of(&answers[3]);
    assert!(diff["diff"].as_str().unwrap().ends_with("@@ -1 +1,2 @@\n hello\n+change\n"), "{diff}");
    assert!(json_of(&answers[4])["commits"].as_array().unwrap().len() == 1, "{}", answers[4]);

    // The traps are real: git by itself falls into them. The filter that answers nothing would end it before the others.
    let _ = place.git_command("root/evil", &["add", "a.txt"]).output().unwrap();
    place.git("root/evil", &["config", "--unset", "filter.evil.process"]);
    place.write("root/evil/a.txt", b"hello\nagain\n");
    for arguments in [
        &["status"][..],
        &["diff", "--", "a.txt"],
        &["log", "-p", "--ext-diff", "--", "a.txt"],
        &["log", "-p", "--no-ext-diff", "--textconv", "--", "a.txt"],
        &["log", "main~1", "-1"],
        &["cat-file", "blob", blob.trim()],
        &["add", "a.txt"],
    ] {
        let _ = place.git_command("root/evil", arguments).output().unwrap();
    }
    let fell = marks(&place);
    println!("traps that git by itself fell into: {fell:?}");
    for wanted in ["fsmonitor", "process", "clean", "driver", "textconv", "hook-gpg", "fetch", "hook-post-index-change"]
    {
        assert!(fell.iter().any(|name| name == wanted), "{wanted}: {fell:?}");
    }
}

#[tokio::test]
async fn a_repository_shows_nothing_from_outside_the_roots() {
    let place = Place::new();
    let rig = start(place.settings());
    place.repository("outside/repo");
    place.write("outside/repo/a.txt", SECRET.as_bytes());
    place.git("outside/repo", &["commit", "-q", "-a", "-m", SECRET]);
    place.git("outside/repo", &["branch", "side"]);
    place.write("outside/repo/a.txt", b"later\n");
    let outside = place.path("outside/repo/.git");
    let outside = outside.to_str().unwrap();
    for name in ["link", "file", "common", "objects", "borrow", "tree", "config"] {
        let at = |sub: &str| place.path(&format!("root/{name}/{sub}"));
        std::fs::create_dir_all(at("")).unwrap();
        place.write(&format!("root/{name}/a.txt"), b"mine\n");
        match name {
            "link" => symlink(outside, at(".git")).unwrap(),
            "file" => std::fs::write(at(".git"), format!("gitdir: {outside}\n")).unwrap(),
            "tree" => {
                place.git("root/tree", &["init", "-q", "-b", "main"]);
                place.git("root/tree", &["config", "core.worktree", place.path("outside").to_str().unwrap()]);
                place.write("root/tree/hidden.txt", b"mine\n");
                for (key, value) in [("GIT_DIR", at(".git")), ("GIT_WORK_TREE", at(""))] {
                    assert!(value.exists(), "{key}");
                }
                let mut add = place.git_command("root/tree", &["add", "hidden.txt"]);
                assert!(add.env("GIT_DIR", at(".git")).env("GIT_WORK_TREE", at("")).status().unwrap().success());
                let mut commit = place.git_command("root/tree", &["commit", "-q", "-m", "x"]);
                assert!(commit.env("GIT_DIR", at(".git")).env("GIT_WORK_TREE", at("")).status().unwrap().success());
            }
            _ => {
                place.git(&format!("root/{name}"), &["init", "-q", "-b", "main"]);
                let git = at(".git");
                match name {
                    "common" => std::fs::write(git.join("commondir"), outside).unwrap(),
                    "objects" => {
                        std::fs::remove_dir_all(git.join("objects")).unwrap();
                        symlink(format!("{outside}/objects"), git.join("objects")).unwrap();
                    }
                    "borrow" => {
                        std::fs::write(git.join("objects/info/alternates"), format!("{outside}/objects\n")).unwrap()
                    }
                    _ => {
                        place.git("root/config", &["config", "include.path", "/etc/passwd"]);
                    }
                }
                let head = place.git("outside/repo", &["rev-parse", "HEAD"]);
                if name != "config" {
                    std::fs::write(git.join("refs/heads/main"), head).unwrap();
                }
            }
        }
        let file = if name == "tree" { "tree/hidden.txt".to_owned() } else { format!("{name}/a.txt") };
        let answers = ask_all(&rig, &place.root(&file)).await;
        for answer in &answers {
            for foreign in [SECRET, "root:x:0:0", "add a"] {
                assert!(!answer.contains(foreign), "{name}: {foreign}: {answer}");
            }
        }
        match name {
            // git cannot read its settings, and says no.
            "config" => assert_eq!(json_of(&answers[3])["tracked"], false, "{}", answers[3]),
            // The working tree is where the repository is, whatever it says.
            "tree" => assert_eq!(json_of(&answers[3])["has_uncommitted"], false, "{}", answers[3]),
            _ => assert_eq!((status(&answers[3]), code(&answers[3]).as_str()), (403, "outside_roots"), "{name}"),
        }
        println!("{name}: {}", body(&answers[3]));
    }
    // What is above a root is no repository of it.
    place.git("", &["init", "-q", "-b", "main"]);
    place.git("", &["add", "-f", "root/Makefile"]);
    place.git("", &["commit", "-q", "-m", SECRET]);
    assert_eq!(json_of(&get(&rig, "/api/file/diff", &place.root("Makefile")).await)["tracked"], false);
    // Nor where a folder's own repository is none, so that git looks for another one further up.
    place.write("hidden.txt", SECRET.as_bytes());
    place.git("", &["add", "hidden.txt"]);
    place.git("", &["commit", "-q", "-m", SECRET]);
    for (folder, wanted) in [("plain", None), ("with:colon", Some("git_failed"))] {
        std::fs::create_dir_all(place.path(&format!("root/{folder}/repo/.git"))).unwrap();
        place.write(&format!("root/{folder}/repo/hidden.txt"), b"mine\n");
        let file = place.root(&format!("{folder}/repo/hidden.txt"));
        for answer in [get(&rig, "/api/file/diff", &file).await, post(&rig, "/api/git-history", &file).await] {
            assert!(!answer.contains(SECRET), "{folder}: {answer}");
            assert_eq!(json_of(&answer)["code"].as_str(), wanted, "{folder}: {answer}");
        }
    }
}

/// A repository outside of the root whose every object is in a pack.
fn packed_outside(place: &Place) -> PathBuf {
    place.repository("outside/repo");
    place.write("outside/repo/a.txt", SECRET.as_bytes());
    place.git("outside/repo", &["commit", "-q", "-a", "-m", SECRET]);
    place.git("outside/repo", &["gc", "-q"]);
    place.path("outside/repo/.git")
}

#[track_caller]
fn nothing_of_it(answers: &[String]) {
    for answer in answers {
        assert!(!answer.contains(SECRET) && !answer.contains("add a"), "{answer}");
    }
}

#[tokio::test]
async fn links_among_the_objects_and_a_repository_beside_an_empty_one_lead_nowhere() {
    let place = Place::new();
    let rig = start(place.settings());
    let outside = packed_outside(&place);
    let loose = {
        place.repository("outside/loose");
        place.write("outside/loose/a.txt", SECRET.as_bytes());
        place.git("outside/loose", &["commit", "-q", "-a", "-m", SECRET]);
        place.path("outside/loose/.git")
    };
    let entries = |dir: &std::path::Path| -> Vec<PathBuf> {
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    for name in ["packs", "fanout", "objects", "bare"] {
        let top = place.path(&format!("root/{name}"));
        std::fs::create_dir_all(&top).unwrap();
        std::fs::write(top.join("a.txt"), "mine\n").unwrap();
        let folder = if name == "bare" { top.clone() } else { top.join(".git") };
        place.git(&format!("root/{name}"), &["init", "-q", "-b", "main"]);
        if name == "bare" {
            for entry in entries(&top.join(".git")) {
                std::fs::rename(&entry, top.join(entry.file_name().unwrap())).unwrap();
            }
            place.git("root/bare", &["--git-dir=.", "config", "core.bare", "true"]);
        }
        let from = if matches!(name, "packs" | "bare") { &outside } else { &loose };
        std::fs::copy(from.join("index"), folder.join("index")).unwrap();
        let head = place.git(if from == &outside { "outside/repo" } else { "outside/loose" }, &["rev-parse", "HEAD"]);
        std::fs::write(folder.join("refs/heads/main"), head).unwrap();
        match name {
            "packs" => {
                for pack in entries(&outside.join("objects/pack")) {
                    symlink(&pack, folder.join("objects/pack").join(pack.file_name().unwrap())).unwrap();
                }
            }
            "bare" => {
                let list = format!("{}\n", outside.join("objects").display());
                std::fs::write(folder.join("objects/info/alternates"), list).unwrap();
            }
            _ => {
                for fanout in entries(&loose.join("objects")) {
                    let here = folder.join("objects").join(fanout.file_name().unwrap());
                    if name == "fanout" && !here.exists() {
                        symlink(&fanout, here).unwrap();
                    } else if name == "objects" {
                        std::fs::create_dir_all(&here).unwrap();
                        for object in entries(&fanout) {
                            symlink(&object, here.join(object.file_name().unwrap())).unwrap();
                        }
                    }
                }
            }
        }
        // The trap is real: git by itself shows what is outside.
        assert!(place.git(&format!("root/{name}"), &["show", "main"]).contains(SECRET), "{name}");
        let answers = ask_all(&rig, &place.root(&format!("{name}/a.txt"))).await;
        nothing_of_it(&answers);
        for answer in &answers[..5] {
            assert_eq!((status(answer), code(answer).as_str()), (403, "outside_roots"), "{name}: {answer}");
        }
    }
}

/// git finds another repository than the one that was looked at, and afterwards all is as it was.
#[tokio::test]
async fn a_repository_that_is_another_one_for_a_moment_gives_nothing_away() {
    let place = Place::new();
    let outside = packed_outside(&place);
    let outside = outside.display();
    let git = service::exec::find("git").unwrap();
    let git = git.display();
    let base = place.base.display();
    let swaps = [
        ("folder", format!("mv .git ../kept; ln -s {outside} .git; {git} \"$@\"; rm .git; mv ../kept .git")),
        (
            "tree",
            format!(
                "cd /; mv {base}/root/tree {base}/root/kept; ln -s {base}/outside/repo {base}/root/tree; cd {base}/root/tree; \
                 {git} \"$@\"; cd /; rm {base}/root/tree; mv {base}/root/kept {base}/root/tree"
            ),
        ),
        (
            "borrow",
            format!(
                "f=.git/objects/info/alternates; echo {outside}/objects > $f; {git} \"$@\"; echo ../../../good/.git/objects > $f"
            ),
        ),
        (
            "pack",
            format!(
                "for p in {outside}/objects/pack/*; do ln -s $p .git/objects/pack/; done; {git} \"$@\"; \
                 find .git/objects/pack -type l -delete"
            ),
        ),
    ];
    place.repository("root/good");
    for (name, swap) in swaps {
        place.repository(&format!("root/{name}"));
        if matches!(name, "borrow" | "pack") {
            let head = place.git("outside/repo", &["rev-parse", "HEAD"]);
            place.write(&format!("root/{name}/.git/refs/heads/main"), head.as_bytes());
            place.write(&format!("root/{name}/.git/objects/info/alternates"), b"../../../good/.git/objects\n");
        }
        let rig = start(stand_in(&place, &swap));
        let file = place.root(&format!("{name}/a.txt"));
        let commit = format!("/api/file/diff?path={}&commit=main", encoded(&file));
        let answers = [
            get(&rig, "/api/file/diff", &file).await,
            rig.ask("GET", &commit, "", "").await,
            post(&rig, "/api/git-history", &file).await,
        ];
        nothing_of_it(&answers);
        for answer in &answers {
            assert_eq!((status(answer), code(answer).as_str()), (503, "git_busy"), "{name}: {answer}");
        }
        println!("{name}: {}", body(&answers[0]));
    }
    // Whoever just works there is not in the way: git is asked again.
    let once =
        format!("test -e {base}/once || {{ touch {base}/once; touch .git/refs/heads/new; rm .git/refs/heads/new; }}");
    let rig = start(stand_in(&place, &format!("{once}; exec {git} \"$@\"")));
    let diff = json_of(&get(&rig, "/api/file/diff", &place.root("good/a.txt")).await);
    assert_eq!((&diff["tracked"], &diff["has_changes"]), (&json!(true), &json!(true)), "{diff}");
    assert!(place.path("once").exists());
}

#[tokio::test]
async fn the_history_of_a_folder_is_not_shown_as_that_of_the_file_in_its_place() {
    let place = Place::new();
    let rig = start(place.settings());
    place.repository("root/proj");
    place.write("root/proj/x/.env", SECRET.as_bytes());
    place.git("root/proj", &["add", "x"]);
    place.git("root/proj", &["commit", "-q", "-m", "a folder"]);
    place.git("root/proj", &["branch", "folder"]);
    std::fs::remove_dir_all(place.path("root/proj/x")).unwrap();
    place.write("root/proj/x", b"a file\n");
    place.git("root/proj", &["add", "-A"]);
    place.git("root/proj", &["commit", "-q", "-m", "a file"]);
    // Followed over the change of its name, it is the secret itself.
    place.write("root/proj/.env", format!("{SECRET}\n").repeat(50).as_bytes());
    place.git("root/proj", &["add", ".env"]);
    place.git("root/proj", &["commit", "-q", "-m", "secret"]);
    place.git("root/proj", &["mv", ".env", "plain"]);
    place.write("root/proj/plain", format!("{}no secret\n", format!("{SECRET}\n").repeat(49)).as_bytes());
    place.git("root/proj", &["commit", "-q", "-a", "-m", "renamed"]);
    place.git("root/proj", &["config", "log.follow", "true"]);
    let ask = async |file: &str, commit: &str| {
        let file = encoded(&place.root(file));
        json_of(&rig.ask("GET", &format!("/api/file/diff?path={file}&commit={commit}"), "", "").await)
    };
    let number = place.git("root/proj", &["log", "--format=%H", "--grep=^a file"]);
    for commit in ["folder", "main", number.trim()] {
        let shown = ask("proj/x", commit).await.to_string();
        assert!(!shown.contains(SECRET), "{commit}: {shown}");
    }
    assert_eq!(ask("proj/x", "folder").await["has_changes"], false);
    let shown = ask("proj/x", number.trim()).await;
    assert!(shown["diff"].as_str().unwrap().ends_with("@@ -0,0 +1 @@\n+a file\n"), "{shown}");
    let shown = ask("proj/plain", "main").await.to_string();
    assert!(shown.contains("+++ b/plain") && !shown.contains(".env"), "{shown}");
    assert_eq!(ask("proj/plain", "main").await["history"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_repository_of_somebody_else_is_refused_by_git_itself() {
    let place = Place::new();
    let rig = start(place.settings());
    place.repository("root/theirs");
    if !rustix::process::geteuid().is_root() {
        // Only root can give files away; the check is git's own, and git is asked the same way.
        return;
    }
    let owner = Command::new("chown").args(["-R", "12345:12345"]).arg(place.path("root/theirs")).status().unwrap();
    assert!(owner.success());
    let answer = json_of(&get(&rig, "/api/file/diff", &place.root("theirs/a.txt")).await);
    assert_eq!((&answer["tracked"], &answer["success"]), (&json!(false), &json!(true)));
    assert_eq!(json_of(&post(&rig, "/api/git-history", &place.root("theirs/a.txt")).await)["commits"], json!([]));
}
