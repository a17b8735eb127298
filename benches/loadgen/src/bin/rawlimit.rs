//! The bound that physics sets: one thread writes the same bytes to N loopback sockets, a child process reads them.
//! No server that makes one system call for each write can be faster.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use clap::Parser;
use loadgen::process::{own_cpu, pin, raise_descriptor_limit};

/// Writes the same bytes to many loopback sockets; prints one line of JSON.
#[derive(Debug, Parser)]
struct Options {
    /// How many sockets
    #[arg(long, default_value_t = 500)]
    sockets: usize,
    /// How long
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Bytes of one frame
    #[arg(long, default_value_t = 630)]
    frame_bytes: usize,
    /// Frames in one write
    #[arg(long, default_value_t = 1)]
    frames: usize,
    /// Writes to every socket a second; 0 is flat out
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// The writer's processor
    #[arg(long, default_value_t = 0)]
    writer_cpu: usize,
    /// The reader's
    #[arg(long, default_value_t = 1)]
    reader_cpu: usize,
}

/// Reads from all sockets until they are closed.
fn read(options: &Options, address: std::net::SocketAddr) -> std::io::Result<()> {
    pin(options.reader_cpu);
    // SAFETY: epoll_create1 has no preconditions.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let streams: Vec<TcpStream> =
        (0..options.sockets).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
    for stream in &streams {
        stream.set_nonblocking(true)?;
        let fd = stream.as_raw_fd();
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
        // SAFETY: both descriptors are open, the pointer is to a live event.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) };
    }
    let mut buffer = vec![0u8; 1 << 18];
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
    loop {
        // SAFETY: the pointer and the count are those of a live array.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 256, 1000) };
        for event in events.iter().take(count.max(0) as usize) {
            // SAFETY: the pointer and the length are those of a live buffer.
            let read = unsafe { libc::recv(event.u64 as i32, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            if read == 0 {
                return Ok(());
            }
        }
    }
}

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    raise_descriptor_limit();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // SAFETY: there is only one thread yet.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(listener);
        std::process::exit(i32::from(read(&options, address).is_err()));
    }
    let mut streams = (0..options.sockets).map(|_| Ok(listener.accept()?.0)).collect::<std::io::Result<Vec<_>>>()?;
    for stream in &streams {
        stream.set_nodelay(true)?;
    }
    pin(options.writer_cpu);
    let data = vec![b'x'; options.frame_bytes * options.frames];
    let (mut writes, mut bursts, cpu, begin) = (0u64, 0u64, own_cpu(), Instant::now());
    while begin.elapsed().as_secs_f64() < options.seconds {
        if options.rate > 0.0 {
            let due = Duration::from_secs_f64(bursts as f64 / options.rate);
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
        }
        for stream in &mut streams {
            stream.write_all(&data)?;
        }
        bursts += 1;
        writes += streams.len() as u64;
    }
    let (seconds, cpu) = (begin.elapsed().as_secs_f64(), own_cpu() - cpu);
    let frames = (writes * options.frames as u64) as f64;
    println!(
        "{{\"mode\":\"raw\",\"sockets\":{},\"frame_bytes\":{},\"frames_per_write\":{},\"frames_per_s\":{:.0},\
         \"writer_cpu_pct\":{:.1},\"frames_per_cpu_s\":{:.0}}}",
        options.sockets,
        options.frame_bytes,
        options.frames,
        frames / seconds,
        100.0 * cpu / seconds,
        frames / cpu
    );
    drop(streams);
    // SAFETY: the child is ours; its status is not asked for.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    Ok(())
}
