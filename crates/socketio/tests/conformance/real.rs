//! The clients that people use, through the same rules: socket.io-client and python-socketio.

use std::process::Command;

use super::*;
use testkit::command::run;
use testkit::{here, skip, venv};

/// Runs a client against a server that lives in a thread of its own, in each way of connecting.
fn goes_through(program: &str, script: &str, modules: Option<String>) {
    let (address, told) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let rig = server();
            address.send(rig.address).unwrap();
            let _ = stopped.await;
            rig.sio.counters.opened.load(std::sync::atomic::Ordering::Relaxed)
        })
    });
    let url = format!("http://{}", told.recv().unwrap());
    for mode in ["polling", "websocket", "upgrade"] {
        let mut command = Command::new(program);
        command.arg(here(script)).args([url.as_str(), mode]);
        if let Some(modules) = &modules {
            command.env("NODE_PATH", modules);
        }
        run(&mut command, Duration::from_secs(60)).ok();
    }
    stop.send(()).unwrap();
    assert!(serving.join().unwrap() >= 3, "each of them was here");
}

#[test]
fn socket_io_client_goes_through_everything() {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| here("target"));
    let modules = format!("{target}/test-js/node_modules");
    if !std::path::Path::new(&modules).join("socket.io-client").exists() {
        return skip("the JavaScript clients are not there; scripts/setup.sh test installs them");
    }
    goes_through("node", "crates/socketio/tests/clients/echo.cjs", Some(modules));
}

#[test]
fn python_socketio_goes_through_everything() {
    let python = format!("{}/bin/python3", venv());
    if !std::path::Path::new(&python).exists() {
        return skip("there is no python-socketio; scripts/setup.sh test installs it");
    }
    goes_through(&python, "crates/socketio/tests/clients/echo.py", None);
}
