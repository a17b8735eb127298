"""A real Socket.IO client: connects, prints each event as one JSON line, connects again by itself when cut off.

    sio_listen.py URL [websocket|polling|upgrade] [resume]

With `resume` it says on each connection which event it has last. `SIO_TOKEN` is a token to show; over https no certificate
is checked.

Lines: {"t": seconds of the monotonic clock, "event": name, "data": [arguments]}; "connected" and "disconnected" are
events, too.
"""

import asyncio
import json
import os
import sys
import time

import socketio


def say(event, *data):
    print(json.dumps({"t": time.monotonic(), "event": event, "data": data}), flush=True)


last_seq = 0


def heard(event, *data):
    global last_seq
    if data and isinstance(data[0], dict):
        last_seq = data[0].get("seq", last_seq)
    say(event, *data)


async def main(url, transport="websocket", resume=None):
    client = socketio.AsyncClient(reconnection=True, reconnection_delay=0.05, reconnection_delay_max=0.2,
                                  randomization_factor=0, ssl_verify=not url.startswith("https:"))
    client.on("*", heard)
    client.on("connect", lambda: say("connected"))
    client.on("disconnect", lambda *reason: say("disconnected", *reason))
    transports = ["polling", "websocket"] if transport == "upgrade" else [transport]
    auth = (lambda: {"last_seq": last_seq}) if resume else None
    headers = {"Authorization": f"Bearer {os.environ['SIO_TOKEN']}"} if "SIO_TOKEN" in os.environ else {}
    await client.connect(url, headers, auth=auth, transports=transports, retry=True)
    await client.wait()


asyncio.run(main(*sys.argv[1:]))
