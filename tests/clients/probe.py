"""Drives and measures an instance from inside its machine; prints one JSON object.

    probe.py ready PORT [--not INSTANCE]             wait until it is ready, and is not that instance
    probe.py signal NAME PID PORT                    send the signal, wait until another instance is ready
    probe.py storm PORT CLIENTS SECONDS [FILE]       so many clients ask again and again, on new connections
    probe.py load PORT SECONDS [FILE]                post events one after the other; which were accepted
    probe.py accepted PORT                           all events the store has, page by page
    probe.py hold PORT                               listen there without ever answering, until killed

The last two end earlier when somebody makes FILE. Times are seconds of the monotonic clock, which all namespaces share.
"""

import http.client
import json
import os
import signal
import socket
import sys
import threading
import time

DEADLINE = 60


def request(port, method, path, body=None, timeout=10):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def health(port):
    status, body = request(port, "GET", "/health", timeout=2)
    return json.loads(body) if status == 200 else None


def wait_ready(port, not_instance):
    end = time.monotonic() + DEADLINE
    last = None
    while time.monotonic() < end:
        try:
            last = health(port)
            if last and last.get("ready") and last["instance_id"] != not_instance:
                return time.monotonic(), last
        except (OSError, http.client.HTTPException, ValueError) as error:
            last = repr(error)
        time.sleep(0.002)
    sys.exit(f"not ready on port {port} within {DEADLINE} s; at last: {last}")


def ready(port, _flag=None, not_instance=None):
    at, found = wait_ready(int(port), not_instance)
    return {"at": at, "health": found}


def send_signal(name, pid, port):
    before = health(int(port))
    begin = time.monotonic()
    os.kill(int(pid), getattr(signal, "SIG" + name))
    at, found = wait_ready(int(port), before["instance_id"])
    return {"seconds": at - begin, "before": before, "health": found}


def is_over(end, file):
    return time.monotonic() >= end or (file is not None and os.path.exists(file))


def storm(port, clients, seconds, file=None):
    port, end = int(port), time.monotonic() + float(seconds)
    counts = {"ok": 0, "refused": 0, "other": 0}
    problems, lock, instances, slowest = set(), threading.Lock(), set(), [0.0]

    def client():
        while not is_over(end, file):
            begin = time.monotonic()
            try:
                status, body = request(port, "GET", "/health", timeout=30)
                kind, problem = ("ok", None) if status == 200 else ("other", f"status {status}")
                with lock:
                    instances.add(json.loads(body)["instance_id"])
            except ConnectionRefusedError as error:
                kind, problem = "refused", repr(error)
            except Exception as error:  # every kind is counted, that is the point
                kind, problem = "other", repr(error)
            with lock:
                counts[kind] += 1
                slowest[0] = max(slowest[0], time.monotonic() - begin)
                if problem:
                    problems.add(problem)
            time.sleep(0.05)

    threads = [threading.Thread(target=client) for _ in range(int(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts | {"problems": sorted(problems), "instances": sorted(instances), "slowest": slowest[0]}


def load(port, seconds, file=None):
    port, end, number = int(port), time.monotonic() + float(seconds), 0
    accepted, failed = [], 0
    while not is_over(end, file):
        number += 1
        marker = f"load-{number}"
        body = {"namespace": "", "event": "claude_event",
                "data": {"type": "hook", "subtype": "pre_tool", "data": {"marker": marker}}}
        try:
            status, _ = request(port, "POST", "/api/events", json.dumps(body), timeout=5)
        except (OSError, http.client.HTTPException):
            status = 0
            time.sleep(0.005)
        if 200 <= status < 300:
            accepted.append(marker)
        else:
            failed += 1
    return {"accepted": accepted, "failed": failed}


def accepted(port):
    port, after, events = int(port), 0, []
    while True:
        status, body = request(port, "GET", f"/api/events?after={after}")
        page = json.loads(body)["events"]
        if status != 200 or not page:
            return {"status": status, "events": events}
        events += page
        after = page[-1]["seq"]


def hold(port):
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, int(port)))
        listener.listen()
        globals().setdefault("held", []).append(listener)
    print("holding", flush=True)
    threading.Event().wait()


VERBS = {"ready": ready, "signal": send_signal, "storm": storm, "load": load, "accepted": accepted, "hold": hold}
print(json.dumps(VERBS[sys.argv[1]](*sys.argv[2:])))
