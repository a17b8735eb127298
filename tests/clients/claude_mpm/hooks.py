"""Runs Claude MPM's real hook handler once for each Claude Code event: hooks.py EVENTS.json

Each run is a process of its own, as Claude Code starts one for each event. It begins as a fork of this one, so that the
package is imported once and not thirty times; from there on it is what the command `claude-hook` does.
"""

import io
import json
import multiprocessing
import os
import sys

from claude_mpm.hooks.claude_hooks import hook_handler


def run(event):
    # The handler waits for its input with select, so it has to be a real descriptor.
    reader, writer = os.pipe()
    os.write(writer, json.dumps(event).encode())
    os.close(writer)
    os.dup2(reader, 0)
    sys.stdin = io.TextIOWrapper(io.FileIO(0))
    sys.argv = ["claude-hook"]
    hook_handler.main()


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with open(sys.argv[1]) as file:
        events = json.load(file)
    for event in events:
        process = context.Process(target=run, args=(event,))
        process.start()
        process.join(30)
        if process.exitcode != 0:
            sys.exit(f"the hook ended with {process.exitcode} on {event}")
