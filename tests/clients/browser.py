"""A real Chromium, driven through its DevTools protocol: browser.py PROFILE_FOLDER [CHROMIUM]

Reads commands from standard input, one JSON object a line, and answers each with one line:
  {"open": URL}          goes there and waits until it is loaded
  {"eval": EXPRESSION}   {"value": ...} or {"error": ...}; a promise is awaited
  {"shot": FILE}         saves what is seen as PNG
  {"troubles": true}     {"value": [...]}: the console's errors, exceptions, failed loads and policy violations so far
Ends with its standard input, and takes all processes of the browser along.
"""

import asyncio
import base64
import json
import os
import re
import shutil
import signal
import sys

import aiohttp

PROGRAM = sys.argv[2] if len(sys.argv) > 2 else "chromium"
FLAGS = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
         "--force-color-profile=srgb", "--window-size=1200,700", "--remote-debugging-port=0"]
# Its own sandbox needs what root and many containers do not have; it only sees our own pages here.
FLAGS.append("--no-sandbox")


class Page:
    """One tab."""

    def __init__(self, socket):
        self.socket, self.number, self.waiting, self.troubles = socket, 0, {}, []
        self.loaded = asyncio.Event()
        self.reader = asyncio.create_task(self.read())

    async def read(self):
        async for message in self.socket:
            told = json.loads(message.data)
            if "id" in told:
                self.waiting.pop(told["id"]).set_result(told)
                continue
            self.hear(told.get("method"), told.get("params", {}))

    def hear(self, method, said):
        if method == "Page.loadEventFired":
            self.loaded.set()
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "assert"):
            self.troubles.append(" ".join(str(a.get("value", a.get("description"))) for a in said["args"]))
        elif method == "Runtime.exceptionThrown":
            details = said["exceptionDetails"]
            self.troubles.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.troubles.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")

    async def call(self, method, **params):
        self.number += 1
        answer = self.waiting[self.number] = asyncio.get_running_loop().create_future()
        await self.socket.send_json({"id": self.number, "method": method, "params": params})
        told = await asyncio.wait_for(answer, 30)
        if "error" in told:
            raise RuntimeError(f"{method}: {told['error']}")
        return told["result"]

    async def do(self, command):
        if "open" in command:
            self.loaded.clear()
            await self.call("Page.navigate", url=command["open"])
            await asyncio.wait_for(self.loaded.wait(), 30)
            return {}
        if "eval" in command:
            told = await self.call("Runtime.evaluate", expression=command["eval"], returnByValue=True, awaitPromise=True)
            if "exceptionDetails" in told:
                return {"error": told["exceptionDetails"].get("exception", {}).get("description", "?")}
            return {"value": told["result"].get("value")}
        if "shot" in command:
            shot = await self.call("Page.captureScreenshot", format="png")
            with open(command["shot"], "wb") as file:
                file.write(base64.b64decode(shot["data"]))
            return {}
        return {"value": self.troubles}


def session(leader):
    """The processes of a session that have not ended."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                state, _, _, of = file.read().rpartition(")")[2].split()[:4]
        except OSError:  # It has just gone.
            continue
        if int(of) == leader and state not in "ZX":
            yield int(pid)


async def end(leader):
    """Ends a session whole, and waits for it: what is left of a browser writes into the profile after it was removed."""
    while left := list(session(leader)):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        await asyncio.sleep(0.01)


async def main():
    if not shutil.which(PROGRAM):
        raise FileNotFoundError(PROGRAM)
    # It ends with this script, however that ends, and keeps everything in its profile.
    browser = await asyncio.create_subprocess_exec(
        "setpriv", "--pdeathsig", "KILL", PROGRAM, *FLAGS, f"--user-data-dir={sys.argv[1]}", "about:blank",
        env=os.environ | {"TMPDIR": sys.argv[1]}, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, start_new_session=True)
    try:
        said = []
        while True:
            line = (await asyncio.wait_for(browser.stderr.readline(), 30)).decode(errors="replace")
            said.append(line)
            if found := re.match(r"DevTools listening on ws://([^/]+)/", line):
                break
            if not line:
                sys.exit("the browser ended: " + "".join(said))
        drained = asyncio.create_task(browser.stderr.read())
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{found[1]}/json/list") as answer:
                target = next(t for t in await answer.json() if t["type"] == "page")
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                for domain in ("Page", "Runtime", "Log"):
                    await page.call(f"{domain}.enable")
                print(json.dumps({"ready": True}), flush=True)
                while line := await asyncio.to_thread(sys.stdin.readline):
                    print(json.dumps(await page.do(json.loads(line))), flush=True)
        drained.cancel()
    finally:
        await end(browser.pid)


asyncio.run(main())
