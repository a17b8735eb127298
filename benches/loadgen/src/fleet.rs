//! All connections, in one epoll set on one thread: subscribers, publishers, and clients that stop reading.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

use crate::histogram::Histogram;
use crate::options::{Mode, Options};
use crate::wire;
use loadgen::process::now;

/// The head of an event, in the shape of Claude MPM's hooks, so that its own server accepts it, too.
const EVENT: &str = concat!(
    r#"{"namespace":"hook","event":"claude_event","data":{"type":"hook","subtype":"pre_tool","#,
    r#""timestamp":"2026-01-01T00:00:00.000000Z","session_id":"7c1f0f2e-5d4b-4c58-9d59-3f6a4a0b9d11","source":"hook","#,
    r#""data":{"tool_name":"Bash","session_id":"7c1f0f2e-5d4b-4c58-9d59-3f6a4a0b9d11","cwd":"/home/u/project","#,
    r#""correlation_id":"c0ffee00-0000-4000-8000-000000000001","lg":""#
);
/// What a stamp and the end of an event take.
const STAMP: usize = "LGT0000000000000000000S0000000000E\",\"pad\":\"\"}}}".len();

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A subscriber over WebSocket
    Websocket,
    /// A client that stops reading once connected
    Slow,
    /// The polling half of a subscriber
    PollGet,
    /// Its posting half
    PollPost,
    /// Posts events
    Publisher,
    /// Emits events over WebSocket
    Emitter,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Waits for the answer to its upgrade, or speaks HTTP only
    Http,
    /// Engine.IO is open
    Open,
    /// Socket.IO is connected, or no request is under way
    Ready,
    /// A request is under way
    Busy,
    Dead,
}

struct Connection {
    stream: TcpStream,
    fd: RawFd,
    kind: Kind,
    state: State,
    /// Bytes received that are no whole message yet
    unread: Vec<u8>,
    /// Bytes that the kernel did not take yet
    unsent: Vec<u8>,
    /// The other half of a polling subscriber
    peer: usize,
    sid: String,
    last_sequence: u64,
    received: u64,
    wants_write: bool,
    connected: bool,
    /// When the request under way was sent
    posted: u64,
}

/// What has been counted.
#[derive(Default)]
pub struct Counts {
    /// Events given to the server
    pub sent: u64,
    /// Of these, answered with 2xx, or emitted
    pub accepted: u64,
    /// The same, in the measured time
    pub accepted_measured: u64,
    /// Answered with anything else
    pub refused: u64,
    /// Events received by subscribers
    pub deliveries: u64,
    /// The same, in the measured time
    pub deliveries_measured: u64,
    /// Subscribers and other clients that lost their connection
    pub disconnects: u64,
    /// Events that a client got twice in a row
    pub duplicates: u64,
    /// Events that came after a later one; normal with more than one publisher
    pub reordered: u64,
    /// Messages that are no event of ours
    pub others: u64,
    /// Clients that Socket.IO has welcomed
    pub connected: usize,
    /// Calls of recv
    pub reads: u64,
    /// What went wrong first
    pub first_error: String,
}

/// The connections and what they saw.
pub struct Fleet {
    options: Options,
    epoll: RawFd,
    connections: Vec<Connection>,
    subscribers: Vec<usize>,
    idle_publishers: Vec<usize>,
    emitter: usize,
    /// Scheduled events that no publisher was free for: when due, sequence
    pub backlog: VecDeque<(u64, u64)>,
    /// See there.
    pub counts: Counts,
    /// Whether this is the measured time.
    pub measuring: bool,
    /// When it began.
    pub measuring_since: u64,
    /// From an event's stamp to its delivery.
    pub latency: Histogram,
    /// From a POST to its answer.
    pub post_latency: Histogram,
    padding: String,
    buffer: Vec<u8>,
}

impl Fleet {
    /// Without any connection.
    pub fn new(options: Options) -> Self {
        // SAFETY: epoll_create1 has no preconditions.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        let padding = "x".repeat(options.payload_bytes.saturating_sub(EVENT.len() + STAMP));
        Self {
            options,
            epoll,
            connections: Vec::new(),
            subscribers: Vec::new(),
            idle_publishers: Vec::new(),
            emitter: 0,
            backlog: VecDeque::new(),
            counts: Counts::default(),
            measuring: false,
            measuring_since: u64::MAX,
            latency: Histogram::new(),
            post_latency: Histogram::new(),
            padding,
            buffer: vec![0; 1 << 20],
        }
    }

    /// Opens one subscriber (or slow client) over WebSocket.
    pub fn subscribe(&mut self, kind: Kind) {
        let index = self.upgrade(kind);
        if kind == Kind::Websocket {
            self.subscribers.push(index);
        }
    }

    /// Opens one subscriber that polls.
    pub fn subscribe_polling(&mut self) {
        let get = self.open(Kind::PollGet);
        let post = self.open(Kind::PollPost);
        self.connections[get].peer = post;
        self.connections[post].peer = get;
        self.subscribers.push(get);
        self.poll_get(get);
    }

    /// Opens what publishes.
    pub fn open_publishers(&mut self) {
        if self.options.mode == Mode::Emit {
            self.emitter = self.upgrade(Kind::Emitter);
            let (wanted, since) = (self.counts.connected + 1, now());
            while self.counts.connected < wanted && now() - since < 5_000_000_000 {
                self.poll(20_000_000);
            }
            return;
        }
        for _ in 0..self.options.publishers {
            let index = self.open(Kind::Publisher);
            self.connections[index].state = State::Ready;
            self.idle_publishers.push(index);
        }
    }

    /// Subscribers that are connected now.
    pub fn live(&self) -> usize {
        self.subscribers
            .iter()
            .filter(|i| self.connections[**i].connected && self.connections[**i].state != State::Dead)
            .count()
    }

    /// Events that the live subscribers should have got and have not.
    pub fn lost(&self) -> (u64, u64) {
        let live = self.subscribers.iter().map(|i| &self.connections[*i]).filter(|c| c.state != State::Dead);
        let (count, received) = live.fold((0, 0), |(n, sum), c| (n + 1, sum + c.received));
        let expected = self.counts.accepted * count;
        (expected.saturating_sub(received), expected)
    }

    /// Clients that stopped reading and that the server has not hung up on.
    pub fn slow_connected(&self) -> usize {
        let gone = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR;
        let slow = self.connections.iter().filter(|c| c.kind == Kind::Slow);
        slow.filter(|c| {
            let mut poll = libc::pollfd { fd: c.fd, events: libc::POLLRDHUP, revents: 0 };
            // SAFETY: the pointer is to one live pollfd.
            unsafe { libc::poll(&mut poll, 1, 0) };
            poll.revents & gone == 0
        })
        .count()
    }

    fn control(&self, index: usize, operation: i32, write: bool) {
        let events = libc::EPOLLIN | if write { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event { events: events as u32, u64: index as u64 };
        // SAFETY: both descriptors are open, the pointer is to a live event.
        unsafe { libc::epoll_ctl(self.epoll, operation, self.connections[index].fd, &mut event) };
    }

    fn open(&mut self, kind: Kind) -> usize {
        let publishes = matches!(kind, Kind::Publisher | Kind::Emitter);
        let address = self.options.post_url.filter(|_| publishes).unwrap_or(self.options.url);
        let stream = match kind {
            Kind::Slow => connect_with_small_buffer(address, self.options.slow_rcvbuf),
            _ => TcpStream::connect(address),
        };
        let stream = stream.and_then(|s| {
            s.set_nonblocking(true)?;
            s.set_nodelay(true)?;
            Ok(s)
        });
        let stream = stream.unwrap_or_else(|e| {
            eprintln!("cannot connect to {address}: {e}");
            std::process::exit(3)
        });
        let fd = stream.as_raw_fd();
        self.connections.push(Connection {
            stream,
            fd,
            kind,
            state: State::Http,
            unread: Vec::new(),
            unsent: Vec::new(),
            peer: 0,
            sid: String::new(),
            last_sequence: 0,
            received: 0,
            wants_write: false,
            connected: false,
            posted: 0,
        });
        let index = self.connections.len() - 1;
        self.control(index, libc::EPOLL_CTL_ADD, false);
        index
    }

    fn upgrade(&mut self, kind: Kind) -> usize {
        let index = self.open(kind);
        let request = format!(
            "GET {}?EIO=4&transport=websocket HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
            self.options.path,
            self.options.url,
            self.options.header_lines()
        );
        self.write(index, request.as_bytes());
        index
    }

    fn poll_get(&mut self, index: usize) {
        let sid = &self.connections[index].sid;
        let sid = if sid.is_empty() { String::new() } else { format!("&sid={sid}") };
        let request = format!(
            "GET {}?EIO=4&transport=polling{sid} HTTP/1.1\r\nHost: {}\r\n{}\r\n",
            self.options.path,
            self.options.url,
            self.options.header_lines()
        );
        self.write(index, request.as_bytes());
    }

    fn poll_post(&mut self, get: usize, body: &str) {
        let request = format!(
            "POST {}?EIO=4&transport=polling&sid={} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain;charset=UTF-8\r\n\
             Content-Length: {}\r\n{}\r\n{body}",
            self.options.path,
            self.connections[get].sid,
            self.options.url,
            body.len(),
            self.options.header_lines()
        );
        self.write(self.connections[get].peer, request.as_bytes());
    }

    fn write(&mut self, index: usize, bytes: &[u8]) {
        let c = &mut self.connections[index];
        if c.state == State::Dead {
            return;
        }
        let taken = if c.unsent.is_empty() { send(c.fd, bytes) } else { 0 };
        if taken < bytes.len() {
            c.unsent.extend(&bytes[taken..]);
            if !std::mem::replace(&mut c.wants_write, true) {
                self.control(index, libc::EPOLL_CTL_MOD, true);
            }
        }
    }

    fn flush(&mut self, index: usize) {
        let c = &mut self.connections[index];
        let taken = send(c.fd, &c.unsent);
        c.unsent.drain(..taken);
        if c.unsent.is_empty() {
            c.wants_write = false;
            self.control(index, libc::EPOLL_CTL_MOD, false);
        }
    }

    fn bury(&mut self, index: usize, why: &str) {
        let c = &mut self.connections[index];
        if c.state == State::Dead {
            return;
        }
        if self.counts.first_error.is_empty() {
            self.counts.first_error = format!("{:?}, {:?}: {why}", c.kind, c.state);
        }
        c.state = State::Dead;
        // SAFETY: both descriptors are open; a removal needs no event.
        unsafe { libc::epoll_ctl(self.epoll, libc::EPOLL_CTL_DEL, c.fd, std::ptr::null_mut()) };
        // It may be closed already, and then there is nothing to shut.
        let _ = c.stream.shutdown(std::net::Shutdown::Both);
        if !matches!(c.kind, Kind::PollPost | Kind::Publisher) {
            self.counts.disconnects += 1;
        }
    }

    /// Publishes one event, stamped with that time, where a publisher is free; says whether one was.
    pub fn publish(&mut self, time: u64, sequence: u64) -> bool {
        let emit = self.options.mode == Mode::Emit;
        let index = if emit {
            self.emitter
        } else {
            match self.idle_publishers.pop() {
                Some(index) => index,
                None => return false,
            }
        };
        let event = format!("{EVENT}LGT{time:019}S{sequence:010}E\",\"pad\":\"{}\"}}}}}}", self.padding);
        self.counts.sent += 1;
        if emit {
            let packet = format!("42{}[\"{}\",{event}]", self.options.namespace_prefix(), self.options.event);
            self.counts.accepted += 1;
            self.counts.accepted_measured += u64::from(self.measuring);
            self.write(index, &wire::client_frame(wire::TEXT, packet.as_bytes()));
        } else {
            let request = format!(
                "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n{event}",
                self.options.post_path,
                self.options.url,
                event.len(),
                self.options.header_lines()
            );
            self.connections[index].state = State::Busy;
            self.connections[index].posted = now();
            self.write(index, request.as_bytes());
        }
        true
    }

    /// Answers an Engine.IO packet on the transport it came by.
    fn answer(&mut self, index: usize, packet: &str) {
        if self.connections[index].kind == Kind::PollGet {
            self.poll_post(index, packet);
        } else {
            self.write(index, &wire::client_frame(wire::TEXT, packet.as_bytes()));
        }
    }

    /// One Engine.IO packet.
    fn packet(&mut self, index: usize, packet: &[u8], time: u64) {
        match packet {
            [b'4', b'2' | b'5', ..] => match wire::stamp(packet) {
                Some((sent, sequence)) => self.delivery(index, sent, sequence, time),
                None => self.counts.others += 1,
            },
            [b'4', b'0', ..] => {
                let c = &mut self.connections[index];
                if !std::mem::replace(&mut c.connected, true) {
                    c.state = State::Ready;
                    self.counts.connected += 1;
                }
            }
            [b'4', b'4', ..] => self.bury(index, &format!("refused: {}", String::from_utf8_lossy(packet))),
            [b'0', ..] => {
                let text = String::from_utf8_lossy(packet);
                let sid = text.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next());
                self.connections[index].sid = sid.unwrap_or_default().to_owned();
                self.connections[index].state = State::Open;
                let connect = format!("40{}{}", self.options.namespace_prefix(), self.options.auth_json);
                self.answer(index, &connect);
            }
            [b'2', ..] => self.answer(index, "3"),
            [b'1', ..] => self.bury(index, "Engine.IO close"),
            [b'4', b'1', ..] => self.bury(index, "Socket.IO disconnect"),
            _ => self.counts.others += 1,
        }
    }

    fn delivery(&mut self, index: usize, sent: u64, sequence: u64, time: u64) {
        let c = &mut self.connections[index];
        if matches!(c.kind, Kind::Emitter | Kind::Slow) {
            return;
        }
        match sequence.cmp(&c.last_sequence) {
            std::cmp::Ordering::Equal => self.counts.duplicates += 1,
            std::cmp::Ordering::Less => self.counts.reordered += 1,
            std::cmp::Ordering::Greater => c.last_sequence = sequence,
        }
        c.received += 1;
        self.counts.deliveries += 1;
        if self.measuring {
            self.counts.deliveries_measured += 1;
            if sent >= self.measuring_since {
                self.latency.add(time.saturating_sub(sent));
            }
        }
    }

    /// Consumes the whole messages at the head of `bytes`; says how many bytes they were.
    fn feed(&mut self, index: usize, bytes: &[u8], time: u64) -> usize {
        let mut at = 0;
        loop {
            let c = &self.connections[index];
            if c.state == State::Dead {
                return bytes.len();
            }
            let websocket = matches!(c.kind, Kind::Websocket | Kind::Slow | Kind::Emitter);
            if websocket && c.state != State::Http {
                let Some((opcode, payload, used)) = wire::server_frame(&bytes[at..]) else { return at };
                at += used;
                match opcode {
                    wire::TEXT => self.packet(index, payload, time),
                    wire::CLOSE => self.bury(index, "WebSocket close"),
                    wire::PING => self.write(index, &wire::client_frame(wire::PONG, payload)),
                    _ => self.counts.others += 1,
                }
                continue;
            }
            let Some(answer) = wire::response(&bytes[at..]) else { return at };
            at += answer.used;
            match c.kind {
                Kind::Publisher => self.posted(index, answer.status, time),
                Kind::PollGet if answer.status == 200 => {
                    for packet in answer.body.split(|b| *b == 0x1e) {
                        self.packet(index, packet, time);
                    }
                    self.poll_get(index);
                }
                Kind::PollPost if answer.status == 200 => {}
                Kind::PollPost => self.bury(c.peer, &format!("a post got {}", answer.status)),
                _ if answer.status == 101 => self.connections[index].state = State::Open,
                _ => self.bury(index, &format!("got {} {}", answer.status, String::from_utf8_lossy(&answer.body))),
            }
        }
    }

    fn posted(&mut self, index: usize, status: u32, time: u64) {
        if (200..300).contains(&status) {
            self.counts.accepted += 1;
            self.counts.accepted_measured += u64::from(self.measuring);
        } else {
            self.counts.refused += 1;
            if self.counts.first_error.is_empty() {
                self.counts.first_error = format!("an event got {status}");
            }
        }
        if self.measuring {
            self.post_latency.add(time.saturating_sub(self.connections[index].posted));
        }
        self.connections[index].state = State::Ready;
        self.idle_publishers.push(index);
    }

    fn readable(&mut self, index: usize) {
        let c = &mut self.connections[index];
        if c.state == State::Dead {
            return;
        }
        if c.kind == Kind::Slow && c.connected {
            // From now on it never reads again.
            // SAFETY: both descriptors are open; a removal needs no event.
            unsafe { libc::epoll_ctl(self.epoll, libc::EPOLL_CTL_DEL, c.fd, std::ptr::null_mut()) };
            return;
        }
        let kept = c.unread.len();
        self.buffer[..kept].copy_from_slice(&c.unread);
        let room = &mut self.buffer[kept..];
        // SAFETY: the pointer and the length are those of a live slice.
        let count = unsafe { libc::recv(c.fd, room.as_mut_ptr().cast(), room.len(), 0) };
        self.counts.reads += 1;
        if count < 0 && std::io::Error::last_os_error().kind() == std::io::ErrorKind::WouldBlock {
            return;
        }
        if count <= 0 {
            return self.bury(index, "hung up");
        }
        c.unread.clear();
        let end = kept + count as usize;
        let buffer = std::mem::take(&mut self.buffer);
        let used = self.feed(index, &buffer[..end], now());
        self.connections[index].unread.extend(&buffer[used.min(end)..end]);
        self.buffer = buffer;
    }

    /// Waits at most so many nanoseconds for something to happen, and lets it happen.
    pub fn poll(&mut self, nanoseconds: u64) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
        let wait = libc::timespec {
            tv_sec: (nanoseconds / 1_000_000_000) as i64,
            tv_nsec: (nanoseconds % 1_000_000_000) as i64,
        };
        // SAFETY: the pointers are to live values, the count is that of the array.
        let count = unsafe { libc::epoll_pwait2(self.epoll, events.as_mut_ptr(), 256, &wait, std::ptr::null()) };
        for event in events.iter().take(count.max(0) as usize) {
            let (index, what) = (event.u64 as usize, event.events);
            if what & libc::EPOLLOUT as u32 != 0 && !self.connections[index].unsent.is_empty() {
                self.flush(index);
            }
            if what & !(libc::EPOLLOUT as u32) != 0 {
                self.readable(index);
            }
        }
    }
}

fn send(fd: RawFd, bytes: &[u8]) -> usize {
    // SAFETY: the pointer and the length are those of a live slice.
    let count = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    count.max(0) as usize
}

/// SO_RCVBUF counts only when it is set before the connection is made, which the standard library cannot do.
fn connect_with_small_buffer(address: SocketAddr, size: i32) -> std::io::Result<TcpStream> {
    let SocketAddr::V4(address) = address else {
        return Err(std::io::Error::other("clients that stop reading need an IPv4 address"));
    };
    // SAFETY: the pointers are to live values of the lengths given; the descriptor is new and nobody else's.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        let length = size_of::<i32>() as libc::socklen_t;
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, (&raw const size).cast(), length);
        let mut name: libc::sockaddr_in = std::mem::zeroed();
        name.sin_family = libc::AF_INET as libc::sa_family_t;
        name.sin_port = address.port().to_be();
        name.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
        let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let stream = TcpStream::from_raw_fd(fd);
        match libc::connect(fd, (&raw const name).cast(), length) {
            0 => Ok(stream),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}
