// The page of mpm-monitor: the live events, over Engine.IO 4 / Socket.IO 5 on one WebSocket.
// Everything an event says is untrusted text: it only ever becomes textContent.
"use strict";

const KEPT = 2000;
const element = (id) => document.getElementById(id);
const events = [];
const hiddenKinds = new Set();
const kinds = new Map();
// The last event shown, and the store that its number is of. Said at each connection, so that what was missed comes first.
let lastSeq = null;
let epoch;
let clients = 0;

element("example").textContent =
  `curl -d '{"event":"claude_event","data":{"subtype":"user_prompt","session_id":"s-1","data":{"prompt":"hello"}}}' ${location.origin}/api/events`;

function text(tag, content) {
  const made = document.createElement(tag);
  made.textContent = content;
  return made;
}

function facts(pairs) {
  element("facts").replaceChildren(...pairs.map(([name, value]) => {
    const pair = document.createElement("div");
    pair.append(text("dt", name), text("dd", value));
    return pair;
  }));
}

function detailOf(event) {
  const data = event.payload && event.payload.data;
  if (data === null || typeof data !== "object") return String(data ?? "");
  const tool = data.tool_name ? `${data.tool_name} ` : "";
  const input = data.tool_input || data.tool_parameters || data.prompt || data.prompt_text || data.message;
  const said = typeof input === "object" && input ? input.command || input.file_path || JSON.stringify(input) : input;
  return tool + (said ?? JSON.stringify(data));
}

function matches(event) {
  if (hiddenKinds.has(event.name)) return false;
  const wanted = element("search").value.trim().toLowerCase();
  return !wanted || JSON.stringify(event).toLowerCase().includes(wanted);
}

function row(event) {
  const made = document.createElement("tr");
  made.dataset.kind = event.name;
  const at = new Date(event.accepted || event.payload.timestamp);
  const time = Number.isNaN(at.getTime()) ? "" : at.toLocaleTimeString([], { hour12: false }) + "." + String(at.getMilliseconds()).padStart(3, "0");
  made.append(text("td", time), text("td", event.name.replace("_event", "")),
    text("td", event.payload.subtype ?? ""), text("td", event.payload.session_id ?? ""), text("td", detailOf(event)));
  made.addEventListener("click", () => {
    element("json").textContent = JSON.stringify(event.payload, null, 2);
    element("detail").hidden = false;
  });
  return made;
}

function redraw() {
  element("events").replaceChildren(...events.filter(matches).slice(-KEPT).reverse().map(row));
  element("empty").hidden = events.length > 0;
}

function kindButtons() {
  element("kinds").replaceChildren(...[...kinds].sort().map(([kind, count]) => {
    const button = document.createElement("button");
    button.setAttribute("aria-pressed", String(!hiddenKinds.has(kind)));
    button.append(text("span", `${kind.replace("_event", "")} ${count}`));
    button.addEventListener("click", () => {
      if (!hiddenKinds.delete(kind)) hiddenKinds.add(kind);
      kindButtons();
      redraw();
    });
    return button;
  }));
}

function add(event) {
  if (event.seq !== undefined) lastSeq = event.seq;
  events.push(event);
  kinds.set(event.name, (kinds.get(event.name) || 0) + 1);
  if (events.length > KEPT) events.shift();
  if (element("hold").checked) return;
  element("empty").hidden = true;
  if (matches(event)) {
    element("events").prepend(row(event));
    if (element("events").childElementCount > KEPT) element("events").lastElementChild.remove();
  }
  kindButtons();
}

// The token of a monitor that asks for one. It comes by the form, or behind the # of a link, which no server gets to see,
// and is forgotten with the tab.
const said = new URLSearchParams(location.hash.slice(1)).get("token");
if (said) {
  sessionStorage.setItem("token", said);
  history.replaceState(null, "", location.pathname);
}

async function health() {
  try {
    const token = sessionStorage.getItem("token");
    const answer = await fetch("/health", { headers: token ? { Authorization: `Bearer ${token}` } : {} });
    if (!answer.ok) return null;
    const h = await answer.json();
    const since = Math.floor(h.uptime / 60);
    facts([["version", h.version], ["port", h.port], ["up", since < 120 ? `${since} min` : `${Math.floor(since / 60)} h`],
      ["clients", clients || h.clients], ["events", h.last_seq]]);
    return h;
  } catch {
    return null;
  }
}

const LISTENED = new Set(["claude_event", "hook_event", "tool_event", "session_event", "response_event", "agent_event", "file_event", "system_event"]);

// What the page has. One that was just opened asks for the newest events, as many as it shows.
async function auth() {
  if (lastSeq === null) {
    const h = await health();
    if (h) lastSeq = Math.max(0, h.last_seq - KEPT);
  }
  return JSON.stringify({ last_seq: lastSeq ?? 0, epoch, token: sessionStorage.getItem("token") ?? undefined });
}

let current;

function connect(wait) {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/socket.io/?EIO=4&transport=websocket`);
  current = socket;
  const state = element("state");
  socket.onmessage = async ({ data }) => {
    if (typeof data !== "string") return;
    if (data[0] === "0") socket.send(`40${await auth()}`);
    else if (data[0] === "2") socket.send("3");
    else if (data.startsWith("44")) {
      const { message, data: why } = JSON.parse(data.slice(2));
      state.textContent = "token needed";
      element("refusal").textContent = why?.code === "token_wrong" ? "That is not the token of this monitor." : message;
      element("door").hidden = false;
      element("token").focus();
    } else if (data.startsWith("40")) {
      wait = 500;
      element("door").hidden = true;
      state.textContent = "live";
      state.classList.add("live");
    } else if (data.startsWith("42")) {
      const [name, payload] = JSON.parse(data.slice(2));
      if (name === "dashboard:client:count") { clients = payload.count; health(); }
      else if (name === "server_restarting") state.textContent = "restarting";
      else if (name === "resumed") {
        ({ to: lastSeq, epoch } = payload);
        health();
      } else if (LISTENED.has(name) && payload) add({ name, payload, seq: payload.seq });
    }
  };
  socket.onclose = () => {
    state.textContent = "reconnecting";
    state.classList.remove("live");
    setTimeout(() => connect(Math.min(wait * 2, 10000)), wait);
  };
}

element("door").addEventListener("submit", async (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", element("token").value.trim());
  element("token").value = "";
  if (current.readyState === WebSocket.OPEN) current.send(`40${await auth()}`);
});
element("search").addEventListener("input", redraw);
element("hold").addEventListener("change", () => { redraw(); kindButtons(); });
element("close").addEventListener("click", () => { element("detail").hidden = true; });
setInterval(health, 15000);
health();
connect(500);
