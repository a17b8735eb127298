// A real socket.io-client: prints each event as one JSON line, connects again by itself when cut off, and ends when its
// standard input does.
//
//     node listen.cjs URL polling|websocket|upgrade
//
// Lines: {"event": name, "data": [arguments], "transport": what it came over}; "connected", "upgraded", "disconnected"
// and "acknowledged" are events of the client itself.

const { io } = require("socket.io-client");

const [url, mode] = process.argv.slice(2);
const transports = mode === "upgrade" ? ["polling", "websocket"] : [mode];
const socket = io(url, { transports, reconnectionDelay: 50, reconnectionDelayMax: 200, randomizationFactor: 0 });
const say = (event, ...data) => {
  const transport = socket.io.engine?.transport?.name ?? null;
  console.log(JSON.stringify({ event, data, transport }));
};

// On each engine, for a reconnection makes a new one.
socket.io.on("open", () => socket.io.engine.once("upgrade", () => say("upgraded")));
socket.on("connect", () => {
  say("connected", socket.id);
  socket.emit("dashboard:ping", { timestamp: 1 }, (...args) => say("acknowledged", "dashboard:ping", args));
});
socket.on("disconnect", (reason) => say("disconnected", reason));
socket.on("connect_error", (error) => say("refused", String(error)));
socket.onAny(say);

// What the test asks it to send: one JSON array [name, argument] a line.
require("readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const [name, argument] = JSON.parse(line);
    socket.emit(name, argument, (...args) => say("acknowledged", name, args));
  })
  .on("close", () => {
    socket.disconnect();
    process.exit(0);
  });
