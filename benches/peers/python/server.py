"""The least that python-socketio on aiohttp needs to do the monitor's work: server.py PORT."""

import sys

import socketio
from aiohttp import web

sio = socketio.AsyncServer(async_mode="aiohttp", cors_allowed_origins="*")
app = web.Application()
sio.attach(app)


async def post_event(request):
    body = await request.json()
    await sio.emit(body["event"], body["data"])
    return web.Response(status=204)


async def health(_request):
    return web.json_response({"status": "ok"})


app.router.add_post("/api/events", post_event)
app.router.add_get("/health", health)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
