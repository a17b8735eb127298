// A real socket.io-client: prints each event as one JSON line, connects again by itself when cut off, and ends when its
// standard input does.
//
//     node listen.cjs URL polling|websocket|upgrade [resume]
//
// With `resume` it says on each connection which event it has last.
//
// Lines: {"event": name, "data": [arguments], "transport": what it came over}; "connected", "upgraded", "disconnected"
// and "acknowledged" are events of the client itself.

const { io } = require("socket.io-client");

const [url, mode, resume] = process.argv.slice(2);
const transports = mode === "upgrade" ? ["polling", "websocket"] : [mode];
let lastSeq = 0;
const auth = resume ? (give) => give({ last_seq: lastSeq }) : undefined;
const socket = io(url, { auth, transports, reconnectionDelay: 50, reconnectionDelayMax: 200, randomizationFactor: 0 });
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
socket.onAny((_, payload) => {
  if (payload?.seq) lastSeq = payload.seq;
});

// What the test asks it to send: one JSON array [name, argument] a line; or to go and come back: "away", "back".
require("readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const said = JSON.parse(line);
    if (said === "away") return socket.disconnect();
    if (said === "back") return socket.connect();
    const [name, argument] = said;
    return socket.emit(name, argument, (...args) => say("acknowledged", name, args));
  })
  .on("close", () => {
    socket.disconnect();
    process.exit(0);
  });
