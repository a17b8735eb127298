// A real socket.io-client against the test server of the conformance tests: goes through namespaces, refusals, binary
// events, acknowledgements in both directions and a disconnect by the server; ends with 0 if all is as it should be.
//
//     node echo.cjs URL polling|websocket|upgrade

const assert = require("node:assert");
const { Manager } = require("socket.io-client");

const [url, mode] = process.argv.slice(2);
const transports = mode === "upgrade" ? ["polling", "websocket"] : [mode];
const manager = new Manager(url, { transports, reconnection: false });
const next = (socket, event) =>
  new Promise((resolve) => socket.once(event, (...args) => resolve(args)));
const bytes = Buffer.from([1, 2, 3, 255]);
// Browsers and Node give different kinds of bytes; what is in them counts.
const list = (data) => [...new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength)];

async function talk(socket) {
  let back = next(socket, "message-back");
  socket.emit("message", 1, "two", { three: [null] });
  assert.deepStrictEqual(await back, [1, "two", { three: [null] }]);

  back = next(socket, "message-back");
  socket.emit("message", bytes, { inside: bytes });
  const [data, { inside }] = await back;
  assert.deepStrictEqual([list(data), list(inside)], [[...bytes], [...bytes]]);

  assert.strictEqual(await socket.timeout(5000).emitWithAck("message-with-ack", "x"), "x");
  assert.deepStrictEqual(list(await socket.timeout(5000).emitWithAck("message-with-ack", bytes)), [...bytes]);

  socket.once("question", (words, answer) => answer(words, bytes));
  const answer = next(socket, "answer");
  socket.emit("ask", "well?");
  const [[said, sizes]] = await answer;
  assert.deepStrictEqual([said[0], sizes], ["well?", [bytes.length]]);
}

async function main() {
  const main = manager.socket("/");
  await next(main, "connect");
  await talk(main);
  const custom = manager.socket("/custom");
  await next(custom, "connect");
  assert.notStrictEqual(custom.id, main.id);
  await talk(custom);

  const [unknown] = await next(manager.socket("/unknown"), "connect_error");
  assert.strictEqual(unknown.message, "Invalid namespace");
  const guarded = manager.socket("/guarded");
  const [refused] = await next(guarded, "connect_error");
  assert.deepStrictEqual([refused.message, refused.data], ["say the password", { code: "wrong_password" }]);
  guarded.auth = { password: "open sesame" };
  guarded.connect();
  await next(guarded, "connect");
  await talk(guarded);

  const gone = next(custom, "disconnect");
  custom.emit("kick");
  assert.strictEqual((await gone)[0], "io server disconnect");
  custom.connect();
  await next(custom, "connect");
  await Promise.all([talk(custom), talk(main)]);
  console.log(JSON.stringify({ done: main.io.engine.transport.name }));
  manager._close();
  process.exit(0);
}

main().catch((error) => {
  console.log(JSON.stringify({ failed: String(error.stack) }));
  process.exit(1);
});
