//! The connection to the server: every command has a deadline, every failure a reason that says what to do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::streams::{StreamId, StreamRangeReply, StreamReadReply};
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisConnectionInfo, RedisError, cmd};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::entry::Entry;
use super::meter::{Allowance, Metered};
use super::url::BusUrl;
use crate::events::store::StoreError;

/// How long a connection and a command may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most bytes of an answer, unless an event may be larger than half of it.
const ANSWER: usize = 16 << 20;

/// Why a task of the bus cannot go on as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The server, or the way there.
    #[error("{0}")]
    Server(String),
    /// An answer of the server is larger than one may be.
    #[error(
        "{0} sent more than {1} bytes in one answer; if events of other nodes are that large, raise server.max_body"
    )]
    TooLarge(String, usize),
    /// Another process publishes under this node's name.
    #[error("another monitor ({0}) publishes as node {1}; give one of them another bus.node")]
    NameTaken(String, String),
    /// The own store does not take or give events.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The file that says which generation of the stream is ours cannot be kept.
    #[error("cannot keep {0}; free the disk or make it writable")]
    Generation(String),
    /// The stream has changed under us: to be looked at anew.
    #[error("the stream of this node was changed by somebody else; reading it again")]
    Changed,
}

impl Trouble {
    /// A name for programs that never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Server(_) => "bus_server",
            Self::TooLarge(..) => "bus_answer_too_large",
            Self::NameTaken(..) => "bus_name_taken",
            Self::Store(_) => "bus_store",
            Self::Generation(_) => "bus_generation",
            Self::Changed => "bus_changed",
        }
    }
}

/// Why, in words for whoever has to mend it.
fn why(error: &RedisError, place: &str) -> String {
    if error.is_timeout() {
        return format!("{place} does not answer within {} s", PATIENCE.as_secs());
    }
    if error.is_connection_refusal() {
        return format!("{place} refuses connections; see that the server runs");
    }
    let said = error.to_string();
    let code = error.code().unwrap_or_default().to_owned();
    let has = |word: &str| code == word || said.contains(word);
    let advice = if has("WRONGPASS") || has("NOAUTH") || error.kind() == ErrorKind::AuthenticationFailed {
        "wants another user or password; set bus.password_file"
    } else if has("NOPERM") {
        "does not let this user do that; its ACL needs the commands and keys of docs/bus.md"
    } else if has("OOM") {
        "is out of memory; raise its maxmemory, or lower bus.stream_events"
    } else if has("READONLY") {
        "is a read-only replica; name the primary in bus.url"
    } else if has("WRONGTYPE") {
        "has something else under our keys; choose another bus.stream, or delete it there"
    } else if has("LOADING") || has("BusyLoading") {
        "loads its data"
    } else if has("MISCONF") {
        "does not take writes as it cannot save them; see its log"
    } else if has("CLUSTERDOWN") || has("MOVED") || has("CROSSSLOT") {
        "is a cluster, which the bus does not speak to; name a single server"
    } else if error.is_io_error() {
        return format!("the connection to {place} failed: {}", short(&said));
    } else {
        return format!("{place} said: {}", short(&said));
    };
    format!("{place} {advice} ({})", short(&said))
}

/// What a server says is not ours: bounded, one line, printable.
fn short(said: &str) -> String {
    said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(160).collect()
}

fn trouble(error: &RedisError, place: &str, allowance: &Allowance) -> Trouble {
    match allowance.exceeded() {
        Some(most) => Trouble::TooLarge(place.to_owned(), most),
        None => Trouble::Server(why(error, place)),
    }
}

/// See the module.
pub(super) struct Link {
    conn: MultiplexedConnection,
    place: String,
    allowance: Arc<Allowance>,
    /// Reads and writes, until this is dropped.
    _driver: AbortOnDropHandle<()>,
}

impl Link {
    /// Connects. `block` is the longest time that a command waits on purpose, `max_body` the largest event that is posted here.
    pub async fn connect(url: &BusUrl, block: Duration, max_body: usize) -> Result<Self, Trouble> {
        let place = url.place();
        let allowance = Allowance::new(ANSWER.max(max_body.saturating_mul(2)));
        let mut redis = RedisConnectionInfo::default().set_db(url.db.into()).set_skip_set_lib_name();
        if let Some(user) = &url.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &url.password {
            redis = redis.set_password(password.reveal());
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE + block));
        let connecting = async {
            let stream = TcpStream::connect((url.host.as_str(), url.port)).await?;
            stream.set_nodelay(true)?;
            let metered = Metered::new(stream, Arc::clone(&allowance));
            let (conn, driver) = MultiplexedConnection::new_with_config(&redis, metered, config).await?;
            Ok((conn, driver))
        };
        // Around everything, as the greeting after the connection can hang as well.
        let (conn, driver) = match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(connected) => connected.map_err(|e: RedisError| trouble(&e, &place, &allowance))?,
            Err(_) => return Err(Trouble::Server(format!("{place} does not answer within {} s", PATIENCE.as_secs()))),
        };
        let driver = AbortOnDropHandle::new(tokio::spawn(driver));
        let mut link = Self { conn, place, allowance, _driver: driver };
        link.ask::<String>(&cmd("PING")).await?;
        Ok(link)
    }

    pub async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, Trouble> {
        self.allowance.begin();
        command.query_async(&mut self.conn).await.map_err(|e| self.trouble(&e))
    }

    /// Several commands at once: the answer of each.
    pub async fn ask_each<T: FromRedisValue>(&mut self, commands: &Pipeline) -> Result<Vec<T>, Trouble> {
        self.allowance.begin();
        commands.query_async(&mut self.conn).await.map_err(|e| self.trouble(&e))
    }

    /// All or nothing.
    pub async fn ask_all(&mut self, commands: &Pipeline) -> Result<(), Trouble> {
        self.allowance.begin();
        commands.exec_async(&mut self.conn).await.map_err(|e| self.trouble(&e))
    }

    fn trouble(&self, error: &RedisError) -> Trouble {
        if error.to_string().contains("equal or smaller than the target") {
            return Trouble::Changed;
        }
        trouble(error, &self.place, &self.allowance)
    }

    /// The entries of a stream from `from` to `to`, at most `count`.
    pub async fn range(&mut self, key: &str, from: &str, to: &str, count: usize) -> Result<Vec<StreamId>, Trouble> {
        let reply: StreamRangeReply =
            self.ask(cmd("XRANGE").arg(key).arg(from).arg(to).arg("COUNT").arg(count)).await?;
        Ok(reply.ids)
    }

    /// The newest entries of a stream up to `to`, newest first, at most `count`.
    pub async fn newest(&mut self, key: &str, to: &str, count: usize) -> Result<Vec<StreamId>, Trouble> {
        let reply: StreamRangeReply =
            self.ask(cmd("XREVRANGE").arg(key).arg(to).arg("-").arg("COUNT").arg(count)).await?;
        Ok(reply.ids)
    }

    /// What comes after the ids in the streams, at most `count` of each; waits for it at most `block`.
    pub async fn read(
        &mut self,
        streams: &[(String, String)],
        count: usize,
        block: Duration,
    ) -> Result<HashMap<String, Vec<StreamId>>, Trouble> {
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(count).arg("BLOCK").arg(block.as_millis().max(1) as u64).arg("STREAMS");
        for (key, _) in streams {
            read.arg(key);
        }
        for (_, id) in streams {
            read.arg(id);
        }
        let reply: Option<StreamReadReply> = self.ask(&read).await?;
        Ok(reply.map_or_else(HashMap::new, |r| r.keys.into_iter().map(|k| (k.key, k.ids)).collect()))
    }
}

/// Adds an entry to a stream, which forgets its oldest ones beyond `most`.
pub(super) fn add(commands: &mut Pipeline, key: &str, entry: &Entry, most: Option<u64>) {
    let add = commands.cmd("XADD").arg(key);
    if let Some(most) = most {
        add.arg("MAXLEN").arg("~").arg(most);
    }
    add.arg(entry.id());
    for (name, value) in entry.fields() {
        add.arg(name).arg(value);
    }
    add.ignore();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_refuses_says_what_to_do() {
        let error = |text: &'static str| {
            let value = redis::parse_redis_value(text.as_bytes()).and_then(|v| v.extract_error());
            why(&value.expect_err("it is an error"), "h:1")
        };
        for (said, part) in [
            ("-NOAUTH Authentication required.\r\n", "bus.password_file"),
            ("-WRONGPASS invalid username-password pair or user is disabled.\r\n", "bus.password_file"),
            ("-NOPERM this user has no permissions to run the 'xadd' command\r\n", "ACL"),
            ("-OOM command not allowed when used memory > 'maxmemory'.\r\n", "out of memory"),
            ("-READONLY You can't write against a read only replica.\r\n", "primary"),
            ("-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", "bus.stream"),
            ("-LOADING Redis is loading the dataset in memory\r\n", "loads its data"),
            (
                "-MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.\r\n",
                "cannot save",
            ),
            ("-MOVED 3999 127.0.0.1:6381\r\n", "cluster"),
            ("-ERR something \u{1b}[31melse\r\n", "h:1 said"),
        ] {
            let told = error(said);
            assert!(told.contains(part) && !told.contains('\u{1b}'), "{said:?}: {told}");
        }
    }

    #[test]
    fn timeouts_and_refusals_are_told_apart() {
        let told = |kind: std::io::ErrorKind| why(&RedisError::from(std::io::Error::from(kind)), "h:1");
        assert!(told(std::io::ErrorKind::TimedOut).contains("does not answer"));
        assert!(told(std::io::ErrorKind::ConnectionRefused).contains("refuses connections"));
        assert!(told(std::io::ErrorKind::BrokenPipe).contains("connection to h:1 failed"));
    }
}
