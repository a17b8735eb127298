"""The measuring half of figures.sh.

    figures.py process PROGRAM        print FIGURE lines about `PROGRAM run`
    figures.py table LINES DOCUMENT   write the FIGURE lines of a file as a table between the document's marks
"""

import datetime
import json
import os
import pathlib
import platform
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

STARTS = 50
IDLE_SECONDS = 60
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
# What each name means, in the table's order; {} is the scope.
MEANINGS = {
    "start_to_READY_p50": "process start (fork) to `READY=1` received, median of 50",
    "start_to_READY_p95": "the same, 95th percentile",
    "TERM_to_exit_p50": "SIGTERM to process gone, median of 50",
    "install_to_ready_{}": "`mpm-monitor install` from its start to its end with readiness proved, {}",
    "kill_9_to_ready_{}": "`kill -9` under load to ready again (`RestartSec=1` in it), {}",
    "events_accepted_around_kill_9_{}": "events accepted (2xx) around that kill, {}",
    "events_lost_by_kill_9_{}": "of these, missing afterwards, {}",
    "hang_to_ready_{}": "SIGSTOP to ready again (`WatchdogSec=10` in it), {}",
    "restart_requests_answered_{}": "requests of 100 clients during two restarts with a socket unit, {}",
    "restart_connections_refused_{}": "of their connections, refused, {}",
    "restart_slowest_answer_{}": "the slowest answer among them, {}",
    "starts_that_were_ready_when_active_{}": "starts that were ready when systemd said active, {}",
    "healthy_alone_p99": "POST to delivery at 100 clients, 200 events a second, 99th percentile",
    "healthy_beside_20_stalled_p99": "the same while 20 more clients do not read",
    "stalled_p99_ratio": "the ratio of the two",
    "idle_rss": "resident memory after a minute without clients (VmRSS)",
    "idle_pss": "of that, its own share (PSS)",
    "idle_private": "of that, private and dirty",
    "idle_anonymous": "not backed by a file (RssAnon)",
    "idle_threads": "threads",
    "idle_descriptors": "open file descriptors",
    "idle_cpu": "processor time in that minute",
    "idle_wakeups": "voluntary context switches in that minute",
    "program_size": "the program's size",
}


def figure(name, value, unit):
    print(f"FIGURE {name} {value} {unit}", flush=True)


class Run:
    """`PROGRAM run` on a free port, in a place of its own."""

    def __init__(self, program, folder):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        listener.close()
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = os.path.join(folder, f"notify-{self.port}")
        self.notify.bind(path)
        self.notify.settimeout(20)
        environment = {
            "PATH": os.environ["PATH"], "HOME": folder, "NOTIFY_SOCKET": path,
            "MPM_MONITOR_STATE_DIR": os.path.join(folder, "state"), "MPM_MONITOR_RUNTIME_DIR": os.path.join(folder, "run"),
        }
        begin = time.monotonic()
        self.process = subprocess.Popen([program, "run", "--port", str(self.port)], env=environment,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while b"READY=1" not in self.notify.recv(8192).split(b"\n"):
            pass
        self.took = time.monotonic() - begin

    def end(self):
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        assert code == 0, code
        return time.monotonic() - begin

    def proc(self, name):
        return pathlib.Path(f"/proc/{self.process.pid}/{name}").read_text()

    def kib(self, file, field):
        return int(re.search(rf"^{field}:\s+(\d+) kB", self.proc(file), re.M).group(1))

    def ticks(self):
        fields = self.proc("stat").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def switches(self):
        total = 0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.M).group(1))
        return total


def process(program):
    figure("program_size", f"{os.path.getsize(program) / 2**20:.1f}", "MiB")
    with tempfile.TemporaryDirectory() as folder:
        starts, ends = [], []
        for _ in range(STARTS):
            run = Run(program, folder)
            starts.append(run.took * 1000)
            ends.append(run.end() * 1000)
        figure("start_to_READY_p50", f"{statistics.median(starts):.1f}", "ms")
        figure("start_to_READY_p95", f"{statistics.quantiles(starts, n=20)[18]:.1f}", "ms")
        figure("TERM_to_exit_p50", f"{statistics.median(ends):.1f}", "ms")

        run = Run(program, folder)
        with urllib.request.urlopen(f"http://127.0.0.1:{run.port}/health") as answer:
            assert json.load(answer)["ready"]
        ticks, switches = run.ticks(), run.switches()
        time.sleep(IDLE_SECONDS)
        figure("idle_cpu", (run.ticks() - ticks) * 1000 // os.sysconf("SC_CLK_TCK"), "ms")
        figure("idle_wakeups", run.switches() - switches, "switches")
        figure("idle_rss", f"{run.kib('status', 'VmRSS') / 1024:.1f}", "MiB")
        figure("idle_pss", f"{run.kib('smaps_rollup', 'Pss') / 1024:.1f}", "MiB")
        figure("idle_private", f"{run.kib('smaps_rollup', 'Private_Dirty') / 1024:.1f}", "MiB")
        figure("idle_anonymous", f"{run.kib('status', 'RssAnon') / 1024:.1f}", "MiB")
        figure("idle_threads", len(os.listdir(f"/proc/{run.process.pid}/task")), "threads")
        figure("idle_descriptors", len(os.listdir(f"/proc/{run.process.pid}/fd")), "descriptors")
        run.end()


def table(lines, document):
    found = {}
    for line in pathlib.Path(lines).read_text().splitlines():
        _, name, value, unit = line.split(maxsplit=3)
        found[name] = f"{float(value):.0f} {unit}" if re.fullmatch(r"\d+\.\d{3,}", value) else f"{value} {unit}"
    scopes = {"system": "system manager", "user": "user manager"}
    rows = []
    for pattern, meaning in MEANINGS.items():
        for scope, words in scopes.items() if "{}" in pattern else [("", "")]:
            if (value := found.get(pattern.format(scope))) is not None:
                rows.append(f"| {meaning.format(words)} | {value} |")
    processor = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    where = (f"{datetime.date.today()}, {os.cpu_count()} cores ({processor.group(1) if processor else platform.machine()}), "
             f"Linux {platform.release().split('-')[0]}.")
    text = "\n".join([BEGIN, "", where, "", "| what | measured |", "|---|---|", *rows, "", END])
    path = pathlib.Path(document)
    path.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: text, path.read_text(), flags=re.S))


{"process": process, "table": table}[sys.argv[1]](*sys.argv[2:])
