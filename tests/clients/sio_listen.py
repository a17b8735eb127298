"""A real Socket.IO client: connects, prints each event as one JSON line, connects again by itself when cut off.

    sio_listen.py URL [websocket|polling]

Lines: {"t": seconds of the monotonic clock, "event": name, "data": [arguments]}; "connected" and "disconnected" are
events, too.
"""

import asyncio
import json
import sys
import time

import socketio


def say(event, *data):
    print(json.dumps({"t": time.monotonic(), "event": event, "data": data}), flush=True)


async def main(url, transport):
    client = socketio.AsyncClient(reconnection=True, reconnection_delay=0.05, reconnection_delay_max=0.2,
                                  randomization_factor=0)
    client.on("*", say)
    client.on("connect", lambda: say("connected"))
    client.on("disconnect", lambda *reason: say("disconnected", *reason))
    await client.connect(url, transports=[transport], retry=True)
    await client.wait()


asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "websocket"))
