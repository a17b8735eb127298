"""Times hooks as Claude Code runs them: hooks.py PROGRAM CLAUDE_MPM PLACE RUNS, on a network of its own."""

import glob
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request

program, claude_mpm, place, runs = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
for folder in ("home", "bin", "project", "state", "run"):
    os.mkdir(f"{place}/{folder}")
subprocess.run(["git", "init", "-q", "-b", "main", f"{place}/project"], check=True)
with open(f"{place}/bin/claude", "w") as file:
    # The hook in Python asks Claude Code for its version before it does anything.
    file.write("#!/bin/sh\necho '2.1.4 (Claude Code)'\n")
os.chmod(f"{place}/bin/claude", 0o755)
environment = {
    "PATH": f"{place}/bin:{os.environ['PATH']}", "HOME": f"{place}/home", "LC_ALL": "C.UTF-8",
    "XDG_RUNTIME_DIR": f"{place}/run", "MPM_MONITOR_STATE_DIR": f"{place}/state", "MPM_MONITOR_RUNTIME_DIR": f"{place}/run",
}
fast = glob.glob(f"{claude_mpm}/lib/python3.*/site-packages/claude_mpm/scripts/claude-hook-fast.sh")[0]
hooks = {
    "ours": ([program, "hook"], runs),
    "theirs, bash": (["bash", fast], runs),
    "theirs, Python": ([f"{claude_mpm}/bin/claude-hook"], max(5, runs // 10)),
}
event = json.dumps({
    "session_id": "bench", "transcript_path": f"{place}/t.jsonl", "cwd": f"{place}/project", "permission_mode": "default",
    "hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": {"command": "ls -la", "description": "list"},
    "tool_use_id": "toolu_bench",
}).replace('": "', '":"').encode()


def once(command):
    began = time.perf_counter()
    ran = subprocess.run(command, input=event, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                         env=environment, cwd=f"{place}/project")
    assert ran.returncode == 0, command
    return (time.perf_counter() - began) * 1000


def measure():
    times = {name: [] for name in hooks}
    # In turns, so that whatever else the machine does falls on all of them.
    for turn in range(runs):
        for name, (command, count) in hooks.items():
            if turn * count // runs != (turn + 1) * count // runs:
                times[name].append(once(command))
    return times


def wait_for_monitor():
    for _ in range(1000):
        try:
            with urllib.request.urlopen("http://127.0.0.1:8765/health", timeout=1) as answer:
                if json.load(answer)["ready"]:
                    return
        except OSError:
            time.sleep(0.01)
    sys.exit("the monitor does not get ready")


def row(state, times):
    ours = statistics.median(times["ours"])
    for name, all_of_it in times.items():
        median = statistics.median(all_of_it)
        worst = sorted(all_of_it)[int(len(all_of_it) * 0.95)]
        ratio = "" if name == "ours" else f"{median / ours:.0f}x"
        print(f"| {state} | {name} | {median:.1f} | {worst:.1f} | {len(all_of_it)} | {ratio} |", flush=True)


empty = []
for _ in range(runs):
    empty.append(once(["/bin/true"]))
print(f"`/bin/true`, started the same way: {statistics.median(empty):.1f} ms\n")
print("| monitor | hook | median, ms | 95 %, ms | runs | to ours |\n|---|---|---|---|---|---|")
monitor = subprocess.Popen([program, "run"], env=environment, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    wait_for_monitor()
    row("up", measure())
finally:
    monitor.terminate()
    monitor.wait(30)
row("down", measure())
