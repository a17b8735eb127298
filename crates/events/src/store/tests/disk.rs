use std::io::Write;
use std::process::Command;

use super::*;

/// A small file system in memory, gone with this value.
struct Small(tempfile::TempDir);

impl Small {
    /// `None` where this user may not mount one.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "mpm-monitor-test"])
            .arg(dir.path())
            .output()
            .is_ok_and(|out| out.status.success());
        mounted.then(|| Self(dir))
    }

    /// Leaves no room; the file to remove for there to be some again.
    fn fill(&self) -> PathBuf {
        let filler = self.0.path().join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        filler
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Nothing to do about a failure but to leave an empty mount behind.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_events_and_loses_none() {
    let Some(small) = Small::mount() else {
        eprintln!("skipped: only root on Linux can mount the small file system that this test fills");
        return;
    };
    let config = config(&small.0.path().join("events.db"));
    let (store, components) = open(&config);
    let mut accepted = Vec::new();
    for n in 0..20 {
        accepted.push((store.append(draft(&n.to_string())).await.unwrap(), n));
    }

    for round in 0..3 {
        let filler = small.fill();
        let mut refused = None;
        for n in (round + 1) * 10_000..(round + 1) * 10_000 + 2000 {
            match store.append(draft(&n.to_string())).await {
                Ok(seq) => accepted.push((seq, n)),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        let refused = refused.expect("a full disk refuses events sooner or later");
        assert_eq!(refused.code(), "store_degraded");
        assert!(refused.to_string().contains("is full"), "{refused}");
        let (state, detail) = told(&components);
        assert_eq!((state, detail.contains("is full")), (State::Degraded, true), "{detail}");
        assert_eq!(all(&store).await.len(), accepted.len(), "reading goes on");

        std::fs::remove_file(&filler).unwrap();
        accepted.push((store.append(draft("0")).await.expect("there is room again"), 0));
        until("all is well again", async || told(&components) == (State::Ok, String::new())).await;
    }

    close(&store);
    let (store, _) = open(&config);
    let stored = all(&store).await;
    assert!(stored.iter().map(|e| e.seq).eq(accepted.iter().map(|(seq, _)| *seq)), "exactly what was promised");
    for (event, (_, n)) in stored.iter().zip(&accepted) {
        assert_eq!(event.draft, draft(&n.to_string()));
    }
    close(&store);

    let filler = small.fill();
    let full = Store::open(config.clone(), &Pulse::new(), &Components::new(), Box::new(|_| {})).unwrap_err();
    assert_eq!(full.code(), "store_open", "SQLite needs room for its index of the log");
    assert!(full.to_string().contains("see that its disk has room"), "{full}");
    std::fs::remove_file(filler).unwrap();
    let (store, _) = open(&config);
    assert_eq!(all(&store).await, stored);
    close(&store);
}
