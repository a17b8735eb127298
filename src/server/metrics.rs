//! The figures in OpenMetrics text, <https://prometheus.io/docs/specs/om/open_metrics_spec/>. `docs/metrics.md` is the
//! list for people; a test holds the two together.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::stats::Figures;
use crate::build;

/// The media type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text.
///
/// # Errors
/// None that a string as the target can cause.
pub fn render(figures: Figures) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("mpm_monitor");
    registry.register_collector(Box::new(figures));
    let mut out = String::with_capacity(8192);
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// Writes one metric after the other.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    /// One counter for each set of labels.
    fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = ([(&'static str, &'static str); N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        // Encoded as signed; nothing here comes near the bound.
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?)
    }
}

fn bus_metrics(w: &mut Writer<'_>, bus: &crate::bus::figures::Snapshot) -> fmt::Result {
    w.gauge("bus_publishing", "1 while own events go out to the bus", None, bus.publishing.into())?;
    w.gauge("bus_receiving", "1 while events of other nodes are read", None, bus.receiving.into())?;
    for (name, help, value) in bus.counters {
        w.counter(&format!("bus_{name}"), help, value)?;
    }
    w.gauge("bus_unpublished_events", "Numbers of the own store that are not published yet", None, bus.unpublished)?;
    let help = "Numbers by which the other node is ahead of what is here";
    let mut behind = w.0.encode_descriptor("bus_behind_events", help, None, MetricType::Gauge)?;
    for (node, figures) in &bus.nodes {
        let value = i64::try_from(figures.behind).unwrap_or(i64::MAX);
        ConstGauge::new(value).encode(behind.encode_family(&[("node", node.as_str())])?)?;
    }
    let mut received =
        w.0.encode_descriptor("bus_node_received", "Events of the node stored", None, MetricType::Counter)?;
    for (node, figures) in &bus.nodes {
        ConstCounter::new(figures.received).encode(received.encode_family(&[("node", node.as_str())])?)?;
    }
    Ok(())
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut w = Writer(encoder);
        let mut info = w.0.encode_descriptor("build", "Version and build of the program", None, MetricType::Gauge)?;
        ConstGauge::new(1_i64).encode(info.encode_family(&[("version", build::VERSION), ("build", build::ID)])?)?;
        let uptime =
            w.0.encode_descriptor("uptime", "Time since the start", Some(&Unit::Seconds), MetricType::Gauge)?;
        ConstGauge::new(self.uptime).encode(uptime)?;
        w.gauge("ready", "1 while it is ready to serve", None, self.ready.into())?;
        let help = "When this phase of the start was done, from its beginning";
        let mut family = w.0.encode_descriptor("startup_phase", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (phase, seconds) in &self.phases {
            ConstGauge::new(*seconds).encode(family.encode_family(&[("phase", *phase)])?)?;
        }
        w.counter("parts_aborted", "Parts that earlier lives had to cut off at their end", self.aborted_before)?;
        let generation = self.config_generation;
        w.gauge("config_generation", "How often the configuration was read", None, generation)?;
        let replaced = self.program_replaced;
        w.gauge("program_replaced", "1 while an older program runs than is installed", None, replaced.into())?;
        let mut family =
            w.0.encode_descriptor("component_ok", "1 while the component does all its work", None, MetricType::Gauge)?;
        for (name, component) in &self.components {
            let ok = i64::from(component.state == daemon::components::State::Ok);
            ConstGauge::new(ok).encode(family.encode_family(&[("component", *name)])?)?;
        }
        w.gauge("watchdog_silent_parts", "Parts that have not answered the last question yet", None, self.silent)?;

        let accepted = self.ingest.accepted.iter();
        let accepted = accepted.map(|((path, name), n)| ([("path", path.name()), ("category", *name)], *n));
        w.counters("events_accepted", "Events stored, by how they came and by category", accepted)?;
        let refused = self.ingest.refused.iter();
        let refused = refused.map(|((path, code), n)| ([("path", path.name()), ("code", *code)], *n));
        w.counters("events_refused", "Events refused, by how they came and by the refusal's code", refused)?;
        w.counter("events_sent", "Events passed on to all clients", self.events_sent)?;
        w.counter("dashboard_reloads", "Times that clients were told of a changed dashboard", self.reloads)?;
        w.gauge("hub_queue_events", "Events that wait for the fan-out", None, self.hub_queue)?;

        w.gauge("clients", "Clients in the Socket.IO namespace", None, self.clients)?;
        w.gauge("sessions", "Engine.IO sessions", None, self.sessions)?;
        w.gauge("streams", "Readers of the stream of server-sent events", None, self.streams)?;
        w.gauge("client_backlog", "What waits for all clients together", Some(&Unit::Bytes), self.backlog)?;
        w.counter("sessions_opened", "Engine.IO sessions opened", self.sessions_opened)?;
        w.counter("streams_opened", "Streams of server-sent events opened", self.streams_opened)?;
        let stalled = self.streams_stalled;
        w.counter("streams_stalled", "Of them, reset because their reader took nothing", stalled)?;
        w.counter("clients_refused", "Handshakes refused because of max_clients", self.clients_refused)?;
        let throttled = self.clients_throttled;
        w.counter("clients_throttled", "Times a client sent more than it may and had to wait", throttled)?;
        let ended = self.sessions_ended.iter().map(|(reason, n)| ([("reason", *reason)], *n));
        w.counters("sessions_ended", "Ends of sessions; backlog and stalled are evictions", ended)?;

        w.gauge("connections", "Open connections of any kind", None, self.connections)?;
        w.counter("connections_accepted", "Connections that came in", self.connections_accepted)?;
        w.counter("connections_refused", "Of them, refused because of max_connections", self.connections_refused)?;
        let denied = self.denied.iter().map(|(code, n)| ([("code", *code)], *n));
        w.counters("requests_denied", "What was kept out by Host, Origin, token or user", denied)?;
        w.counter("accept_errors", "Times that accept failed for want of descriptors or memory", self.accept_errors)?;

        let files = self.files.iter().map(|((asked, result), n)| ([("asked", *asked), ("result", *result)], *n));
        w.counters("file_requests", "Questions about files and repositories, by how they ended", files)?;

        w.counter("store_events", "Events committed", self.store_events)?;
        w.counter("store_batches", "Groups that they were committed in", self.store_batches)?;
        w.counter("store_errors", "Groups and transactions that failed", self.store_errors)?;
        w.counter("store_pruned_events", "Old events removed", self.store_pruned)?;
        w.gauge("store_damaged_events", "Damaged events of the database that are left out", None, self.store_damaged)?;
        w.gauge(
            "store_unindexed_events",
            "Events in the journal that are not in the database yet",
            None,
            self.store_unindexed,
        )?;
        w.gauge("store_journal", "What the journal takes", Some(&Unit::Bytes), self.store_journal)?;
        w.gauge("store_queue_events", "Events that wait for the store", None, self.store_queue)?;
        w.gauge("last_seq", "The number of the last event", None, self.last_seq)?;

        if let Some(bus) = &self.bus {
            bus_metrics(&mut w, bus)?;
        }

        let usage = self.usage;
        if let Some(bytes) = usage.resident {
            w.gauge("resident_memory", "Memory of the process", Some(&Unit::Bytes), bytes)?;
        }
        if let Some(threads) = usage.threads {
            w.gauge("threads", "Threads of the process", None, threads)?;
        }
        if let Some(count) = usage.descriptors {
            w.gauge("open_fds", "Open file descriptors of the process", None, count)?;
        }
        Ok(())
    }
}
