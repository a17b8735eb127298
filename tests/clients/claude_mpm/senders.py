"""Claude MPM's other programs that send events to a monitor: senders.py emitter|pool|relay|proxy|aggregator

Each sends one event that carries its own name, to port 8765 of localhost, and prints what it thinks of that; the aggregator
gathers events instead, and prints how many it has. Ends with its standard input.
"""

import asyncio
import json
import sys
import time


def emitter():
    from claude_mpm.services.monitor.event_emitter import AsyncEventEmitter

    async def emit():
        one = await AsyncEventEmitter.get_instance()
        sent = await one.emit_event("hook", "claude_event", {"subtype": "pre_tool", "data": {"marker": "emitter"}},
                                    force_http=True)
        await one.close()
        return sent

    return asyncio.run(emit())


def until(done):
    deadline = time.monotonic() + 15
    while not done() and time.monotonic() < deadline:
        time.sleep(0.01)


def pool():
    # A plain installation has no websocket-client. With it, what is said right before leaving is never sent.
    sys.modules["websocket"] = None
    from claude_mpm.core.socketio_pool import SocketIOConnectionPool

    one = SocketIOConnectionPool()
    one.start()
    until(lambda: one._port_detection_complete)
    # It connects, emits and leaves again at once; now and then it has left before its own writing thread looked.
    return all([one.emit("claude_event", {"subtype": "pre_tool", "data": {"marker": "pool"}}) for _ in range(10)])


def relay():
    from claude_mpm.services.event_bus.relay import SocketIORelay

    return asyncio.run(SocketIORelay().relay_event("hook.pre_tool", {"marker": "relay"}))


def proxy():
    from claude_mpm.services.socketio.client_proxy import SocketIOClientProxy

    one = SocketIOClientProxy()
    one.start_sync()
    until(lambda: one._sio_client and one._sio_client.connected)
    one.broadcast_event("pre_tool", {"marker": "proxy"})
    return True


def aggregator():
    from claude_mpm.services.event_aggregator import EventAggregator

    one = EventAggregator(save_dir=sys.argv[2])
    started = one.start()
    until(lambda: one.total_events_captured >= 2)
    print(json.dumps([started, one.total_events_captured]), flush=True)
    # The event that is posted now.
    until(lambda: one.total_events_captured >= 3)
    return one.total_events_captured


print(json.dumps(globals()[sys.argv[1]]()), flush=True)
# What is on its way gets there before this ends.
sys.stdin.readline()
