//! Races, and files that are no ordinary ones: bounded time, bounded memory, no foreign byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

/// Links that lead in, out, and to a secret by turns, as fast as the machine can.
fn swap(place: &Place, done: &AtomicBool) -> u64 {
    let mut swaps = 0;
    let links = [
        ("swap.txt", ["a.txt", "../outside/hidden.txt", "/etc/passwd"]),
        ("swapped", ["deep", "../outside", ".ssh"]),
        ("deep/swap.txt", ["../a.txt", "../../outside/hidden.txt", "../.ssh/id"]),
    ];
    while !done.load(Ordering::Relaxed) {
        for (link, targets) in &links {
            for target in targets {
                let (new, link) = (place.path("root/new-link"), place.path("root").join(link));
                symlink(target, &new).unwrap();
                std::fs::rename(&new, &link).unwrap();
                swaps += 1;
            }
        }
        // A whole folder by another.
        let (here, there) = (place.path("root/turn"), place.path("root/turned"));
        std::fs::rename(&here, &there).unwrap();
        symlink("../outside", &here).unwrap();
        std::fs::remove_file(&here).unwrap();
        std::fs::rename(&there, &here).unwrap();
        swaps += 1;
    }
    swaps
}

#[tokio::test]
async fn links_that_change_during_the_reads_give_nothing_away() {
    let place = Place::new();
    place.repository("root/turn");
    place.write("root/turn/hidden.txt", b"mine\n");
    place.write("root/deep/hidden.txt", b"mine\n");
    place.git("root/turn", &["add", "hidden.txt"]);
    let rig = start(place.settings());
    for link in ["swap.txt", "swapped", "deep/swap.txt"] {
        symlink("nothing", place.path("root").join(link)).unwrap();
    }
    let (done, place) = (Arc::new(AtomicBool::new(false)), Arc::new(place));
    let (mut good, mut refused, mut slowest) = (0, 0, Duration::ZERO);
    let swapping = {
        let (place, done) = (Arc::clone(&place), Arc::clone(&done));
        std::thread::spawn(move || swap(&place, &done))
    };
    for round in 0..410 {
        let began = Instant::now();
        let mut answers = vec![
            get(&rig, "/api/file/read", &place.root("swap.txt")).await,
            get(&rig, "/api/file/read", &place.root("swapped/hidden.txt")).await,
            post(&rig, "/api/file", &place.root("deep/swap.txt")).await,
            get(&rig, "/api/files", &place.root("swapped")).await,
            get(&rig, "/api/file/read", &place.root("turn/hidden.txt")).await,
        ];
        if round % 25 == 0 {
            answers.push(get(&rig, "/api/file/diff", &place.root("turn/hidden.txt")).await);
        }
        slowest = slowest.max(began.elapsed());
        for answer in answers {
            for foreign in [SECRET, FOREIGN_NAME, "root:x:0:0", "\"id\""] {
                assert!(!answer.contains(foreign), "{foreign}: {answer}");
            }
            if status(&answer) == 200 {
                good += 1;
            } else {
                code(&answer);
                refused += 1;
            }
        }
    }
    done.store(true, Ordering::Relaxed);
    let swaps = swapping.join().unwrap();
    println!(
        "{} reads during {swaps} swaps: {good} answered, {refused} refused, 0 foreign bytes, slowest {slowest:?}",
        good + refused
    );
    assert!(good > 100 && refused > 100 && good + refused > 2000, "{good} {refused}");
}

#[tokio::test]
async fn files_that_are_no_ordinary_ones_cost_little() {
    let place = Place::new();
    let rig = start(place.settings());
    let made = Command::new("mkfifo").arg(place.path("root/pipe")).status().unwrap();
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(place.path("root/socket")).unwrap();
    // Only root makes devices.
    let device =
        Command::new("mknod").arg(place.path("root/zero")).args(["c", "1", "5"]).stderr(Stdio::null()).status();
    let device = device.is_ok_and(|s| s.success());
    std::fs::File::create(place.path("root/sparse")).unwrap().set_len(5 << 30).unwrap();
    std::fs::File::create(place.path("root/full.txt")).unwrap().set_len((10 << 20) + 1).unwrap();
    place.write("root/large.txt", "0123456789abcde\n".repeat(256 << 10).as_bytes());
    place.write("root/binary", b"\x7fELF\x02\x01\x01\0\0\0");
    place.write("root/latin.txt", b"caf\xe9\n");
    place.write("root/controls", &[1; 100_000]);
    place.write("root/empty", b"");
    let before = resident();
    let mut slowest = Duration::ZERO;
    let mut cases = vec![
        ("pipe", "not_a_file"),
        ("socket", "not_a_file"),
        ("sparse", "too_large"),
        ("full.txt", "too_large"),
        ("binary", "not_text"),
        ("latin.txt", "not_text"),
        ("controls", "not_text"),
    ];
    if device {
        cases.push(("zero", "not_a_file"));
    }
    for (name, wanted) in cases {
        for route in ["/api/file/read", "/api/file", "/api/file/diff"] {
            let began = Instant::now();
            let path = place.root(name);
            let answer =
                if route == "/api/file" { post(&rig, route, &path).await } else { get(&rig, route, &path).await };
            slowest = slowest.max(began.elapsed());
            if route == "/api/file/diff" && wanted == "not_text" {
                assert_eq!(json_of(&answer)["tracked"], false, "{answer}");
            } else {
                assert_eq!(described(&answer, route), wanted, "{route} {name}: {answer}");
            }
        }
        let listed = get(&rig, "/api/files", &place.root(name)).await;
        assert!(["not_a_directory", "not_found"].contains(&&*described(&listed, "/api/files")), "{name}");
        let history = post(&rig, "/api/git-history", &place.root(name)).await;
        if status(&history) != 200 {
            described(&history, "/api/git-history");
        }
    }
    let small = resident().saturating_sub(before);
    assert_eq!(json_of(&get(&rig, "/api/file/read", &place.root("empty")).await)["lines"], 1);
    for _ in 0..3 {
        let answer = get(&rig, "/api/file/read", &place.root("large.txt")).await;
        let said = format!("\"lines\":{},", (256 << 10) + 1);
        assert!(answer.len() > 4 << 20 && answer.contains(&said) && answer.contains("\"size\":4194304,"));
    }
    let large = resident().saturating_sub(before);
    println!(
        "refusals: slowest {slowest:?}, {} KiB more memory; three times 4 MiB (the test's own copies included): {} MiB",
        small >> 10,
        large >> 20
    );
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert!(small < 16 << 20, "{small} bytes for refusals");
    assert!(large < 128 << 20, "{large} bytes");
}

#[tokio::test]
async fn a_huge_folder_is_answered_in_part() {
    let place = Place::new();
    let rig = start(place.settings());
    std::fs::create_dir_all(place.path("root/many/zz-folder")).unwrap();
    for n in 0..100_000 {
        std::fs::File::create(place.path(&format!("root/many/f{n:05}"))).unwrap();
    }
    let (before, began) = (resident(), Instant::now());
    let answer = json_of(&get(&rig, "/api/files", &place.root("many")).await);
    let (took, grown) = (began.elapsed(), resident().saturating_sub(before));
    println!("100001 entries: {took:?}, {} KiB more memory", grown >> 10);
    assert!(grown < 64 << 20, "{grown}");
    assert_eq!((&answer["total_files"], &answer["total_directories"]), (&json!(100_000), &json!(1)));
    assert_eq!((&answer["truncated"], answer["files"].as_array().unwrap().len()), (&json!(true), 4999));
    assert_eq!(answer["files"][0]["name"], "f00000");
    assert!(json_of(&get(&rig, "/api/files", &place.root("")).await).get("truncated").is_none());
}

/// What the settings name as a secret is one, whatever `files.deny` says and by whatever name it is asked for.
#[tokio::test]
async fn the_files_of_the_settings_own_secrets_are_never_read() {
    let place = Place::new();
    for name in ["token.txt", "redis.txt", "monitor.toml"] {
        place.write(&format!("root/{name}"), SECRET.as_bytes());
        symlink(name, place.path(&format!("root/link-to-{name}"))).unwrap();
    }
    let rules = Rules { deny: Vec::new(), ..place.rules() };
    let (token, redis) = (Some(place.path("root/token.txt")), Some(place.path("root/redis.txt")));
    // A configuration file may have the password of the bus in it.
    let configured = Settings { config_files: vec![place.path("root/monitor.toml")], ..settings() };
    let rig = start(Settings { files: rules, token_file: token, bus_password_file: redis, ..configured });
    for name in
        ["token.txt", "redis.txt", "monitor.toml", "link-to-token.txt", "link-to-redis.txt", "link-to-monitor.toml"]
    {
        let answer = get(&rig, "/api/file/read", &place.root(name)).await;
        assert_eq!((status(&answer), code(&answer).as_str()), (403, "secret"), "{name}: {answer}");
    }
    assert!(!get(&rig, "/api/files", &place.root("")).await.contains("redis"));
}
