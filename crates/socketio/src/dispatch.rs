//! What a packet of a client leads to: entering and leaving namespaces, events, acknowledgements.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::SocketIo;
use super::namespace::{self, Entering, Entry, Handled, Incoming, Namespace, Socket, Work};
use super::outgoing::{Arguments, Outgoing};
use super::packet::{Kind, Packet};
use super::session::members::DEFAULT;
use super::session::{End, Feed, Reply, Session};
use super::sid::Sid;

/// The most bytes of the payload that comes with a client's wish to enter a namespace: a token is short.
const MAX_AUTH: usize = 64 << 10;

impl SocketIo {
    /// Binary data came in: an attachment.
    ///
    /// # Errors
    /// Why the session must end: none is expected, or there is no room for it.
    pub(super) fn attachment(self: &Arc<Self>, session: &Arc<Session>, data: Bytes) -> Result<(), End> {
        match session.attachment(data, self.options().max_payload)? {
            Some((text, attachments)) => {
                let packet = Packet::parse(&text).map_err(|_| End::Protocol)?;
                self.packet(session, &packet, attachments)
            }
            None => Ok(()),
        }
    }

    /// A message came in: a packet, or the part of one before its attachments.
    ///
    /// # Errors
    /// Why the session must end.
    pub(super) fn message(self: &Arc<Self>, session: &Arc<Session>, text: &str) -> Result<(), End> {
        let packet = Packet::parse(text).map_err(|_| End::Protocol)?;
        if session.expects_attachment() {
            return Err(End::Protocol);
        }
        if packet.attachments > 0 {
            return session.expect(text, packet.attachments, &self.config.memory);
        }
        self.packet(session, &packet, Vec::new())
    }

    /// A whole packet with all its attachments.
    fn packet(
        self: &Arc<Self>,
        session: &Arc<Session>,
        packet: &Packet<'_>,
        attachments: Vec<Bytes>,
    ) -> Result<(), End> {
        let Some(at) = self.protocol.0.iter().position(|n| n.name == packet.namespace) else {
            if packet.kind == Kind::Connect {
                let data = json!({"message": "Invalid namespace"});
                self.send(session, &Outgoing::packet(namespace::refusal(packet.namespace, &data)));
            }
            return Ok(());
        };
        match packet.kind {
            Kind::Connect => self.connect(session, at, packet.data),
            Kind::Disconnect => self.leave(session, at),
            Kind::Event | Kind::BinaryEvent => self.heard(session, at, packet, &attachments)?,
            Kind::Ack | Kind::BinaryAck => {
                // What nobody waits for is not read.
                if let Some(number) = packet.ack.filter(|number| session.waits_for(at, *number)) {
                    let arguments = serde_json::from_str(packet.data).map_err(|_| End::Protocol)?;
                    session.answered(at, number, Reply { arguments, attachments });
                }
            }
            // Clients refuse no namespace.
            Kind::ConnectError => {}
        }
        Ok(())
    }

    /// A client wants to enter a namespace.
    fn connect(self: &Arc<Self>, session: &Arc<Session>, at: usize, payload: &str) {
        let namespace = &self.protocol.0[at];
        if let Some(sid) = session.sid_in(at) {
            return self.send(session, &Outgoing::packets(vec![namespace::granted(&namespace.name, sid.as_str())]));
        }
        let admitted = read_auth(payload).and_then(|auth| admit(namespace, session, &auth).map(|()| auth));
        let auth = match admitted {
            Ok(auth) => auth,
            Err(data) => return self.send(session, &Outgoing::packet(namespace::refusal(&namespace.name, &data))),
        };
        let sid = match at {
            DEFAULT => Ok(session.socket_sid),
            _ => Sid::random(),
        };
        let Ok(sid) = sid else {
            let data = json!({"message": "no randomness for an id", "data": {"code": "internal"}});
            return self.send(session, &Outgoing::packet(namespace::refusal(&namespace.name, &data)));
        };
        let (clients, version) = if at == DEFAULT {
            let (counted, clients, version) = self.registry.joined();
            session.count(counted);
            (clients, version)
        } else {
            self.registry.count()
        };
        let socket = Socket { sio: self, session, namespace: at, id: sid };
        let mut greeting = vec![namespace::granted(&namespace.name, sid.as_str())];
        for (name, payload) in namespace.handlers.iter().flat_map(|h| h.greeting(socket, &auth, clients)) {
            let arguments = Arguments::default().value(&payload);
            greeting.extend(self.event(at, name, &arguments, None).into_packets());
        }
        self.counters.joined.fetch_add(1, Ordering::Relaxed);
        let entering = Entering { socket, auth: &auth, greeting, version };
        let entered = match namespace.entrance.as_ref().filter(|_| at == DEFAULT) {
            Some(entrance) => entrance.enter(entering),
            None => entering.enter(Feed::Off),
        };
        self.sent(session, entered);
    }

    fn heard(
        self: &Arc<Self>,
        session: &Arc<Session>,
        at: usize,
        packet: &Packet<'_>,
        attachments: &[Bytes],
    ) -> Result<(), End> {
        // Before the namespace is granted there is nobody to hear it.
        let Some(id) = session.sid_in(at) else { return Ok(()) };
        let (name, arguments) = packet.event().map_err(|_| End::Protocol)?;
        let socket = Socket { sio: self, session, namespace: at, id };
        let event = Incoming { name: &name, arguments: &arguments, attachments };
        let handlers = &self.protocol.0[at].handlers;
        match handlers.iter().map(|h| h.event(socket, event)).find(|h| !matches!(h, Handled::No)) {
            Some(Handled::Yes(answer)) => self.acknowledge(session, at, packet.ack, &answer),
            Some(Handled::Later(work)) => {
                let (work, session) = (self.acknowledged(session, at, packet.ack, work), Arc::clone(session));
                let bytes = packet.data.len() + attachments.iter().map(Bytes::len).sum::<usize>();
                session.begin(bytes);
                tokio::spawn(async move {
                    work.await;
                    session.settle(bytes);
                });
            }
            Some(Handled::Aside(work)) => drop(tokio::spawn(self.acknowledged(session, at, packet.ack, work))),
            Some(Handled::No) | None => {}
        }
        Ok(())
    }

    /// Work in a task of its own: it goes on when the client leaves, and tasks begin in the order of the events.
    fn acknowledged(
        self: &Arc<Self>,
        session: &Arc<Session>,
        at: usize,
        ack: Option<u64>,
        work: Work,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (sio, session) = (Arc::clone(self), Arc::clone(session));
        async move {
            if let Some(answer) = work.await {
                sio.acknowledge(&session, at, ack, &answer);
            }
        }
    }

    fn acknowledge(&self, session: &Arc<Session>, at: usize, ack: Option<u64>, answer: &Arguments) {
        if ack.is_some() {
            let out = Outgoing::call(&self.protocol.0[at].name, None, answer, ack);
            self.sent(session, session.push_in(at, &out, Instant::now()));
        }
    }
}

/// What came with a client's wish to enter a namespace, or what it is told when that is too much.
fn read_auth(payload: &str) -> Result<Map<String, Value>, Value> {
    if payload.len() > MAX_AUTH {
        let message = format!("the auth payload is larger than {MAX_AUTH} bytes");
        return Err(json!({"message": message, "data": {"code": "auth_too_large"}}));
    }
    // That it is an object or nothing is known since it was parsed.
    Ok(serde_json::from_str(payload).unwrap_or_default())
}

/// What the client is told when it is not let in.
fn admit(namespace: &Namespace, session: &Session, auth: &Map<String, Value>) -> Result<(), Value> {
    let entry = Entry { namespace: &namespace.name, session, auth };
    for middleware in &namespace.middlewares {
        if let Err(refused) = middleware.admit(entry) {
            tracing::debug!(client = %session.socket_sid, code = refused.code, "client not let into {}", namespace.name);
            return Err(json!({"message": refused.message, "data": {"code": refused.code}}));
        }
    }
    Ok(())
}
