"""A Socket.IO client that says a list of things, one after the other, and tells all it hears: say.py URL THINGS.json

The things are {"say": [name, argument...], "taken": true where an acknowledgement is waited for}. For each event that comes a line
{"event": name, "data": [arguments]} is printed, and after each thing {"said": name, "acknowledged": true or false}. Last of all it
says one that everybody hears, and ends when it hears that itself.
"""

import asyncio
import json
import sys

import socketio

LAST = "the last of all"


def tell(**line):
    print(json.dumps(line), flush=True)


async def main(url, things):
    client = socketio.AsyncClient()
    heard_last = asyncio.Event()

    async def hear(event, *data):
        if event == "claude_event" and data and data[0].get("subtype") == LAST:
            heard_last.set()
        else:
            tell(event=event, data=data)

    client.on("*", hear)
    await client.connect(url, transports=["websocket"])
    for thing in things:
        answer, mark = (asyncio.get_running_loop().create_future() for _ in range(2))
        await client.emit(*thing["say"], callback=lambda *said, to=answer: to.set_result(said))
        if thing["taken"]:
            await asyncio.wait_for(asyncio.shield(answer), 20)
        # Everything that answers it at once comes before the answer to this.
        await client.emit("dashboard:ping", {"timestamp": 0}, callback=lambda *said, to=mark: to.set_result(said))
        await asyncio.wait_for(mark, 20)
        tell(said=thing["say"][0], acknowledged=answer.done())
    await client.emit("claude_event", {"subtype": LAST})
    await asyncio.wait_for(heard_last.wait(), 20)
    await client.disconnect()


with open(sys.argv[2]) as file:
    asyncio.run(main(sys.argv[1], json.load(file)))
