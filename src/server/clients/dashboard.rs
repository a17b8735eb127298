//! The `dashboard:` events, and the status that clients of the older dialect ask for.

use serde_json::{Map, Value, json};

use super::Parts;
use super::count::CLIENT_COUNT;
use crate::build;
use socketio::namespace::{Handled, Handler, Incoming, Socket};

pub(super) struct Dashboard {
    pub parts: Parts,
}

impl Handler for Dashboard {
    fn greeting(&self, socket: Socket<'_>, _: &Map<String, Value>, clients: usize) -> Vec<(&'static str, Value)> {
        let welcome = json!({
            "message": "Connected to Claude MPM Unified Monitor",
            "session_id": socket.id(),
            "server_info": {"service": "unified-monitor", "version": build::VERSION},
        });
        vec![("dashboard:welcome", welcome), (CLIENT_COUNT, json!({"count": clients}))]
    }

    fn event(&self, socket: Socket<'_>, event: Incoming<'_>) -> Handled {
        let instance = &self.parts.instance;
        // Clients use it to measure a difference, so any clock that only goes forward serves.
        let clock = instance.started.elapsed().as_secs_f64();
        // The older dialect asks without an argument; the newer one always gives one.
        match (event.name, event.argument()) {
            ("get_status" | "request.status", _) => socket.emit("status", &self.status(socket)),
            ("dashboard:ping", Some(_)) => {
                let sent = event.object().and_then(|mut said| said.remove("timestamp")).unwrap_or(clock.into());
                socket.emit("dashboard:pong", &json!({"timestamp": sent, "server_time": clock}));
            }
            ("dashboard:status", Some(_)) => {
                let status = json!({
                    "service": "unified-monitor",
                    "status": "running",
                    "clients_connected": socket.clients(),
                    "uptime": clock,
                    // What this server does of what the original lists.
                    "features": {"code_analysis": false, "real_ast": false, "file_monitoring": false, "dashboard": true},
                });
                socket.emit("dashboard:status:response", &status);
            }
            ("dashboard:info", Some(_)) => socket.emit("dashboard:info:response", &info()),
            _ => return Handled::No,
        }
        Handled::done()
    }
}

impl Dashboard {
    fn status(&self, socket: Socket<'_>) -> Value {
        json!({
            "type": "connection",
            "subtype": "status",
            "timestamp": format!("{:.6}", jiff::Timestamp::now()),
            "source": "server",
            "session_id": null,
            "data": {
                "server": build::SERVICE,
                "clients_connected": socket.clients(),
                "claude_status": "unknown",
                "claude_pid": null,
                "server_version": build::VERSION,
                "client_id": socket.id(),
                "build_info": {"version": build::VERSION, "build": build::ID},
            },
        })
    }
}

fn info() -> Value {
    json!({
        // The name that clients of the original know.
        "service_name": "Claude MPM Unified Monitor",
        "description": "The live events of coding agents",
        "features": ["Live events", "Event history", "Session tracking", "Health and metrics", "Dashboard"],
        "endpoints": {"dashboard": "/", "health": "/health", "api": "/api/*"},
        "events": {
            "code_analysis": [],
            "dashboard": ["dashboard:status", "dashboard:info", "dashboard:ping"],
        },
    })
}
