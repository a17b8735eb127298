// The least that Node's socket.io needs to do the monitor's work: server.js PORT
"use strict";

const http = require("node:http");
const { Server } = require("socket.io");

const server = http.createServer((request, response) => {
  if (request.method === "GET" && request.url === "/health") {
    response.writeHead(200, { "Content-Type": "application/json" }).end('{"status":"ok"}');
  } else if (request.method === "POST" && request.url === "/api/events") {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const { event, data } = JSON.parse(Buffer.concat(chunks));
      io.emit(event, data);
      response.writeHead(204).end();
    });
  } else {
    response.writeHead(404).end();
  }
});
const io = new Server(server, { serveClient: false });

server.listen(Number(process.argv[2]), "127.0.0.1");
process.on("SIGTERM", () => process.exit(0));
