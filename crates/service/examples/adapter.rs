//! Drives a unit through the `service-manager` crate's trait alone: `adapter install`, `start`, `status`, `stop`, `uninstall`.

use std::error::Error;

use daemon::Program;
use service::app::{App, Env, Units};
use service::paths::Paths;
use service::systemd::Systemd;
use service::{Scope, users};
use service_manager::{
    ServiceInstallCtx, ServiceLabel, ServiceManager, ServiceStartCtx, ServiceStatusCtx, ServiceStopCtx,
    ServiceUninstallCtx,
};

static APP: App = App {
    program: Program { name: "sleeper", version: "1.0.0", build: "1", service: "sleeper" },
    units: Units { system_service: "", user_service: "", socket: "", sysusers: "" },
    env: Env { state_dir: "STATE_DIR", runtime_dir: "RUNTIME_DIR", log_file: "LOG_FILE" },
    default_port: 0,
};
const UNIT: &str = "[Service]\nExecStart=/bin/sleep 600\n\n[Install]\nWantedBy=default.target\n";

fn main() -> Result<(), Box<dyn Error>> {
    let scope = Scope::choose(false, false, users::user_name() == "root");
    let paths = Paths::of(&APP, scope).ok_or("cannot find the home directory; set HOME")?;
    let manager: Box<dyn ServiceManager> = Box::new(Systemd::new(paths));
    let label: ServiceLabel = "sleeper".parse()?;
    match std::env::args().nth(1).as_deref() {
        Some("install") => manager.install(ServiceInstallCtx {
            label,
            program: "/bin/sleep".into(),
            args: Vec::new(),
            contents: Some(UNIT.to_owned()),
            username: None,
            working_directory: None,
            environment: None,
            autostart: true,
            restart_policy: service_manager::RestartPolicy::default(),
        })?,
        Some("start") => manager.start(ServiceStartCtx { label })?,
        Some("stop") => manager.stop(ServiceStopCtx { label })?,
        Some("uninstall") => manager.uninstall(ServiceUninstallCtx { label })?,
        _ => println!("{:?} {:?}", manager.available()?, manager.status(ServiceStatusCtx { label })?),
    }
    Ok(())
}
