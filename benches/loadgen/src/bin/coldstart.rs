//! Starts a program a number of times and measures from spawn to the first 200 of an address.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser;
use loadgen::process::pin;

const DEADLINE: Duration = Duration::from_secs(20);
/// Between two questions: short beside what is measured, long enough to leave the core to the program.
const PAUSE: Duration = Duration::from_micros(100);

/// Measures from spawn to the first 200; prints one line of JSON.
#[derive(Debug, Parser)]
struct Options {
    /// Where the program listens
    #[arg(long)]
    address: SocketAddr,
    /// The path that is asked
    #[arg(long, default_value = "/health")]
    path: String,
    /// How often
    #[arg(long, default_value_t = 7)]
    times: usize,
    /// The processor that the program gets
    #[arg(long)]
    cpu: Option<usize>,
    /// The program
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn spawn(options: &Options) -> std::io::Result<Child> {
    let mut command = Command::new(&options.command[0]);
    command.args(&options.command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(cpu) = options.cpu {
        // SAFETY: one system call between fork and exec, which allocates nothing.
        unsafe {
            command.pre_exec(move || {
                pin(cpu);
                Ok(())
            });
        }
    }
    command.spawn()
}

fn answers(options: &Options) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(options.address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    write!(stream, "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", options.path, options.address)?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(&head == b"HTTP/1.1 200")
}

fn end(mut child: Child) {
    // SAFETY: the process is our child and not yet waited for, so the number is still its own.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let since = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if since.elapsed() > Duration::from_secs(5) {
            // It had its time.
            let _ = child.kill();
        }
        sleep(Duration::from_millis(2));
    }
}

fn main() {
    let options = Options::parse();
    if !options.address.ip().is_loopback() {
        eprintln!("only loopback addresses");
        std::process::exit(2);
    }
    let mut times = Vec::new();
    for _ in 0..options.times.max(1) {
        if TcpStream::connect(options.address).is_ok() {
            eprintln!("somebody listens on {} already", options.address);
            std::process::exit(3);
        }
        let begin = Instant::now();
        let child = spawn(&options).unwrap_or_else(|e| {
            eprintln!("cannot start {}: {e}", options.command[0]);
            std::process::exit(3)
        });
        while !matches!(answers(&options), Ok(true)) && begin.elapsed() < DEADLINE {
            sleep(PAUSE);
        }
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
        end(child);
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!(
        "{{\"mode\":\"coldstart\",\"times\":{},\"median_ms\":{median:.2},\"min_ms\":{:.2},\"max_ms\":{:.2}}}",
        times.len(),
        times[0],
        times[times.len() - 1]
    );
}
