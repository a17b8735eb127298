"""Prints the tables of a run: report.py RESULTS, whose lines are `peer, measurement, round, JSON` between tabs."""

import collections
import json
import statistics
import sys

NAMES = {
    "ours": "mpm-monitor", "socketioxide": "socketioxide", "node": "Node socket.io", "python": "python-socketio",
    "claude-mpm": "Claude MPM", "raw": "raw loopback",
}
LOW, HIGH = min, max

# What is shown: words, measurement, field, factor, which end is the best, digits.
ROWS = [
    ("cold start to first 200, ms", "coldstart", "median_ms", 1, LOW, 1),
    ("fresh memory (RSS), MB", "idle", "rss_before_kb", 1 / 1024, LOW, 1),
    ("... not backed by files (RssAnon), MB", "idle", "anon_before_kb", 1 / 1024, LOW, 1),
    ("... its share (PSS), MB", "idle", "pss_before_kb", 1 / 1024, LOW, 1),
    ("memory of a connection, KB (500 idle)", "idle", "per_conn_kb", 1, LOW, 1),
    ("200 events/s x 500: lost, %", "rate", "lost_pct", 1, HIGH, 3),
    ("... delivered a second", "rate", "deliveries_per_s", 1, HIGH, 0),
    ("... p50, ms", "rate", "lat_ms.p50", 1, LOW, 1),
    ("... p99, ms", "rate", "lat_ms.p99", 1, LOW, 1),
    ("... server's CPU, %", "rate", "server_cpu_pct", 1, LOW, 0),
    ("... deliveries per CPU-second", "rate", "deliveries_per_cpu_s", 1, HIGH, 0),
    ("saturated, 50 clients: deliveries/s", "sat50", "deliveries_per_s", 1, HIGH, 0),
    ("... per CPU-second", "sat50", "deliveries_per_cpu_s", 1, HIGH, 0),
    ("... p99, ms", "sat50", "lat_ms.p99", 1, LOW, 1),
    ("saturated, 500 clients: deliveries/s", "sat500", "deliveries_per_s", 1, HIGH, 0),
    ("... per CPU-second", "sat500", "deliveries_per_cpu_s", 1, HIGH, 0),
    ("... p99, ms", "sat500", "lat_ms.p99", 1, LOW, 1),
    ("... lost, %", "sat500", "lost_pct", 1, HIGH, 3),
    ("... the generator's CPU, % (97 and more: it holds)", "sat500", "loadgen_cpu_pct", 1, HIGH, 0),
    ("POST/s, no subscriber", "post0", "acked_per_s", 1, HIGH, 0),
    ("... per CPU-second", "post0", "acked_per_cpu_s", 1, HIGH, 0),
    ("POST/s, 50 subscribers", "post50", "acked_per_s", 1, HIGH, 0),
    ("... per CPU-second", "post50", "acked_per_cpu_s", 1, HIGH, 0),
]
# Of the raw writer: what stands for a server's figure.
RAW = {"deliveries_per_s": "frames_per_s", "deliveries_per_cpu_s": "frames_per_cpu_s", "server_cpu_pct": "writer_cpu_pct"}
RATIOS = [
    ("cold start", "coldstart", "median_ms", LOW), ("fresh memory", "idle", "rss_before_kb", LOW),
    ("memory of a connection", "idle", "per_conn_kb", LOW),
    ("200/s x 500, per CPU-second", "rate", "deliveries_per_cpu_s", HIGH),
    ("saturated 50, per CPU-second", "sat50", "deliveries_per_cpu_s", HIGH),
    ("saturated 500, per CPU-second", "sat500", "deliveries_per_cpu_s", HIGH),
    ("POST/s, no subscriber", "post0", "acked_per_s", HIGH), ("POST/s, 50 subscribers", "post50", "acked_per_s", HIGH),
]


class Results:
    def __init__(self, path):
        self.lines = collections.defaultdict(list)
        with open(path, encoding="utf-8") as file:
            for line in file:
                peer, what, _, figures = line.rstrip("\n").split("\t")
                self.lines[peer, what].append(json.loads(figures))
        self.peers = [p for p in NAMES if any(peer == p for peer, _ in self.lines)]
        self.rounds = max(len(found) for found in self.lines.values())

    def all(self, peer, what, field):
        if peer == "raw":
            field = RAW.get(field, "")
        found = []
        for value in self.lines[peer, what]:
            for part in field.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            # No latency is that of events which did not arrive within the measured time at all.
            if value is not None and not (field.startswith("lat_ms") and value == 0):
                found.append(value)
        return found

    def best(self, peer, what, field, end):
        found = self.all(peer, what, field)
        return end(found) if found else None


def number(value, digits=0):
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    return f"{value:,.{digits}f}"


def row(cells):
    print("| " + " | ".join(cells) + " |")


def head(*cells):
    row(cells)
    row(["---"] * len(cells))


def figures(r):
    head("" if r.rounds == 1 else "best (median of the rounds)", *(NAMES[p] for p in r.peers))
    for words, what, field, factor, end, digits in ROWS:
        cells = []
        for peer in r.peers:
            found = [v * factor for v in r.all(peer, what, field)]
            cell = number(end(found), digits) if found else "-"
            if len(found) > 1:
                cell += f" ({number(statistics.median(found), digits)})"
            cells.append(cell)
        if any(c != "-" for c in cells):
            row([words, *cells])


def ratios(r):
    others = [p for p in r.peers if p != "ours"]
    print("\nHow many times better mpm-monitor is (best rounds):\n")
    head("", *(NAMES[p] for p in others))
    for words, what, field, end in RATIOS:
        ours, cells = r.best("ours", what, field, end), []
        for peer in others:
            theirs = r.best(peer, what, field, end)
            if not ours or not theirs:
                cells.append("-")
            else:
                cells.append(f"{ours / theirs if end is HIGH else theirs / ours:.2f}")
        if any(c != "-" for c in cells):
            row([words, *cells])


def aims(r):
    print("\nThe aims:\n")
    head("aim", "measured", "")

    def check(words, value, holds, shown):
        row([words, shown if value is not None else "not measured",
             "" if value is None else "met" if holds(value) else "**missed**"])

    def at_most(words, what, field, limit, digits=1, factor=1, end=LOW):
        value = r.best("ours", what, field, end)
        value = None if value is None else value * factor
        check(words, value, lambda v: v <= limit, number(value or 0, digits))

    def at_least(words, what, field, limit):
        value = r.best("ours", what, field, HIGH)
        check(words, value, lambda v: v >= limit, number(value or 0))

    def times(peer, words, limit, what="sat500", field="deliveries_per_cpu_s"):
        ours, theirs = (r.best(p, what, field, HIGH) for p in ("ours", peer))
        value = ours / theirs if ours and theirs else None
        check(words, value, lambda v: v >= limit, f"{value or 0:.2f}")

    # The worst of the rounds, not the best: one lost event is one too many.
    at_most("200 events/s x 500 clients: 0 lost", "rate", "lost", 0, 0, end=HIGH)
    at_most("... p99 <= 6 ms", "rate", "lat_ms.p99", 6)
    at_most("... <= 60 % of a core", "rate", "server_cpu_pct", 60, 0)
    at_least("saturated, 500 clients: >= 2.0 M deliveries per CPU-second", "sat500", "deliveries_per_cpu_s", 2e6)
    times("claude-mpm", "... >= 65 times Claude MPM", 65)
    times("python", "... >= 40 times python-socketio", 40)
    times("socketioxide", "... >= 2 times socketioxide", 2)
    times("raw", "... >= 0.6 of raw loopback, 16 frames a write", 0.6)
    at_least("POST/s >= 85,000, no subscriber, history on", "post0", "acked_per_s", 85e3)
    at_least("POST/s >= 30,000, 50 subscribers, history on", "post50", "acked_per_s", 30e3)
    at_most("fresh memory <= 8 MB", "idle", "rss_before_kb", 8, 1, 1 / 1024)
    at_most("memory of a connection <= 10 KB", "idle", "per_conn_kb", 10)
    at_most("start to first 200 in <= 10 ms", "coldstart", "median_ms", 10)


results = Results(sys.argv[1])
figures(results)
if "ours" in results.peers:
    ratios(results)
    aims(results)
