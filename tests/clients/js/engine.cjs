// A real engine.io-client, one layer below: prints each packet's data as one JSON line, and ends when its standard input
// does, after it has closed the session.
//
//     node engine.cjs URL polling|websocket|upgrade

const { Socket } = require("engine.io-client");

const [url, mode] = process.argv.slice(2);
const transports = mode === "upgrade" ? ["polling", "websocket"] : [mode];
const socket = new Socket(url, { path: "/socket.io/", transports });
const say = (event, data) => console.log(JSON.stringify({ event, data, transport: socket.transport?.name ?? null }));

socket.on("open", () => {
  say("opened", socket.id);
  socket.send("0");
});
socket.on("upgrade", () => say("upgraded", null));
socket.on("message", (data) => say("message", data));
socket.on("error", (error) => say("failed", String(error)));
socket.on("close", (reason) => {
  say("closed", reason);
  process.exit(0);
});
process.stdin.on("end", () => socket.close()).resume();
