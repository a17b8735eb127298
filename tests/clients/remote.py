"""What a client on another machine gets, with the token and without: one JSON object of names and outcomes.

    remote.py ADDRESS TOKEN
"""

import asyncio
import json
import sys
import urllib.error
import urllib.request

import socketio

address, token = sys.argv[1:]
base = f"http://{address}:8765"


def status(path, said=None, body=None, host=None):
    request = urllib.request.Request(base + path, data=body)
    if said:
        request.add_header("Authorization", f"Bearer {said}")
    if host:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        if error.code == 401:
            assert error.headers["WWW-Authenticate"].startswith("Bearer"), error.headers
        return error.code


async def socket(transport, auth=None, headers=None):
    """What the namespace says, and whether an event is acknowledged."""
    client = socketio.AsyncClient(reconnection=False)
    refusals = []
    client.on("connect_error", refusals.append)
    try:
        await client.connect(base, transports=[transport], auth=auth, headers=headers or {}, wait_timeout=10)
    except socketio.exceptions.ConnectionError:
        await client.disconnect()
        return refusals[0]["data"]["code"] if refusals else "no refusal"
    await client.call("claude_event", {"type": "hook", "subtype": "pre_tool"}, timeout=10)
    await client.disconnect()
    return "stored"


def both(**wish):
    said = {asyncio.run(socket(transport, **wish)) for transport in ("polling", "websocket")}
    return said.pop() if len(said) == 1 else sorted(said)


print(json.dumps({
    "socket without": both(),
    "socket with": both(auth={"token": token}),
    "socket with a wrong one": both(auth={"token": token[::-1]}),
    "socket with a header": both(headers={"Authorization": f"Bearer {token}"}),
    "health without": status("/health"),
    "health with": status("/health", token),
    "post without": status("/api/events", body=b"{}"),
    "post with": status("/api/events", token, b"{}"),
    "post with a wrong one": status("/api/events", token[::-1], b"{}"),
    "metrics without": status("/metrics"),
    "page without": status("/"),
    "ready without": status("/ready"),
    "by another name": status("/health", token, host="evil.example"),
}))
