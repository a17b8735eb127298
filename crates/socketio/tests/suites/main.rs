//! The rules that the test suites of the two protocols check, against the examples as they are: 25 of Engine.IO protocol 4
//! and 32 of Socket.IO protocol 5, half of which are those of Engine.IO at its path.

#[path = "../client/mod.rs"]
mod client;
#[path = "../../examples/echo.rs"]
#[allow(dead_code)]
mod echo;
mod engine;
#[path = "../../examples/engine_echo.rs"]
#[allow(dead_code)]
mod engine_echo;
mod socket;

use std::net::SocketAddr;
use std::time::Duration;

use client::*;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const PING_INTERVAL: Duration = Duration::from_millis(300);
const PING_TIMEOUT: Duration = Duration::from_millis(200);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);

/// One of the examples on a free port of this machine, until it is dropped.
struct Example {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Example {
    async fn start<F>(serve: impl FnOnce(TcpListener) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { address: listener.local_addr().unwrap(), serving: tokio::spawn(serve(listener)) }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// `examples/engine_echo.rs`
struct EngineEcho(Example);

impl EngineEcho {
    async fn start() -> Self {
        Self(Example::start(|listener| engine_echo::serve(engine_echo::options().unwrap(), listener)).await)
    }
}

impl Served for EngineEcho {
    const PATH: &str = "/engine.io/";

    fn address(&self) -> SocketAddr {
        self.0.address
    }
}

/// `examples/echo.rs`
struct Echo(Example);

impl Echo {
    async fn start() -> Self {
        Self(Example::start(|listener| echo::serve(echo::options().unwrap(), listener)).await)
    }
}

impl Served for Echo {
    fn address(&self) -> SocketAddr {
        self.0.address
    }
}
