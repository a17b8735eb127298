//! What clients leave behind. Alone in its process, as nextest runs it, for the memory of that is what it measures.

use crate::support::*;

#[tokio::test]
async fn clients_that_come_and_go_leave_nothing_behind() {
    let rig = start(settings());
    let mut resident = Vec::new();
    for round in 0..6 {
        let mut clients = Vec::new();
        for _ in 0..80 {
            let mut ws = Ws::join(&rig).await;
            ws.event("history").await;
            clients.push(ws);
        }
        drop(clients);
        until("all are gone", || rig.server().connections() == 0 && rig.server().clients() == 0).await;
        if round > 1 {
            resident.push(resident_kib());
        }
    }
    let (first, last) = (resident[0], resident[resident.len() - 1]);
    assert!(last <= first + 1024, "resident memory grew from {first} to {last} KiB");
}

fn resident_kib() -> u64 {
    let pid = std::process::id().to_string();
    let ps = std::process::Command::new("ps").args(["-o", "rss=", "-p", &pid]).output().unwrap();
    String::from_utf8(ps.stdout).unwrap().trim().parse().unwrap()
}
