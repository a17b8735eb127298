"""python-socketio against the test server of the conformance tests: namespaces, a refusal, binary events, acknowledgements in
both directions, a disconnect by the server. Ends with 0 if all is as it should be.

    sio_echo.py URL polling|websocket|upgrade
"""

import asyncio
import sys

import socketio

BYTES = bytes([1, 2, 3, 255])
PATIENCE = 10


class Waits:
    """Answers to come, by namespace and event."""

    def __init__(self, client):
        self.client, self.queues = client, {}

    def queue(self, namespace, event):
        key = namespace, event
        if key not in self.queues:
            self.queues[key] = asyncio.Queue()
            self.client.on(event, lambda *args: self.queues[key].put_nowait(args), namespace=namespace)
        return self.queues[key]

    async def next(self, namespace, event):
        return await asyncio.wait_for(self.queue(namespace, event).get(), PATIENCE)


async def talk(client, waits, namespace):
    async def echo(*sent):
        waits.queue(namespace, "message-back")
        await client.emit("message", sent, namespace=namespace)
        assert await waits.next(namespace, "message-back") == sent

    await echo(1, "two", {"three": [None]})
    await echo(BYTES, {"inside": BYTES})
    assert await client.call("message-with-ack", "x", namespace=namespace, timeout=PATIENCE) == "x"
    assert await client.call("message-with-ack", BYTES, namespace=namespace, timeout=PATIENCE) == BYTES
    client.on("question", lambda words: (words, BYTES), namespace=namespace)
    waits.queue(namespace, "answer")
    await client.emit("ask", "well?", namespace=namespace)
    ((said, sizes),) = await waits.next(namespace, "answer")
    assert (said[0], sizes) == ("well?", [len(BYTES)]), (said, sizes)


async def main(url, mode):
    transports = ["polling", "websocket"] if mode == "upgrade" else [mode]
    client = socketio.AsyncClient(reconnection=False)
    waits = Waits(client)
    refusals = asyncio.Queue()
    client.on("connect_error", refusals.put_nowait, namespace="/guarded")
    waits.queue("/custom", "disconnect")
    try:
        await client.connect(url, transports=transports, namespaces=["/", "/custom", "/guarded"], wait_timeout=2)
        raise AssertionError("/guarded let us in")
    except socketio.exceptions.ConnectionError:
        pass
    refused = await asyncio.wait_for(refusals.get(), PATIENCE)
    assert refused == {"message": "say the password", "data": {"code": "wrong_password"}}, refused
    await client.disconnect()
    await client.connect(url, auth={"password": "open sesame"}, transports=transports,
                         namespaces=["/", "/custom", "/guarded"], wait_timeout=PATIENCE)
    assert len({client.get_sid(n) for n in ("/", "/custom", "/guarded")}) == 3
    await asyncio.gather(*(talk(client, waits, n) for n in ("/", "/custom", "/guarded")))
    while not waits.queue("/custom", "disconnect").empty():
        waits.queue("/custom", "disconnect").get_nowait()
    await client.emit("kick", namespace="/custom")
    await waits.next("/custom", "disconnect")
    await talk(client, waits, "/")
    expected = "polling" if mode == "polling" else "websocket"
    assert client.transport() == expected, client.transport()
    await client.disconnect()


asyncio.run(main(*sys.argv[1:]))
