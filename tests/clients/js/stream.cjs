// A real EventSource: prints each event as one JSON line, comes back by itself, and ends when its standard input does.
//
//     node stream.cjs URL
//
// Lines: "open" on each connection; {"name", "id", "data"} for each event.

const { EventSource } = require("eventsource");

const source = new EventSource(process.argv[2]);
source.onopen = () => console.log(JSON.stringify("open"));
for (const name of ["tool_event", "hook_event", "claude_event", "gap", "server_restarting"]) {
  source.addEventListener(name, (event) =>
    console.log(JSON.stringify({ name, id: event.lastEventId, data: JSON.parse(event.data) })),
  );
}
process.stdin.on("end", () => process.exit(0)).resume();
