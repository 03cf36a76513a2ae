// One of any number of Socket.IO servers. They get events through Redis, from relay, whichever browser
// is connected to which of them.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const CATCH_UP = 1000; // events that a browser may have missed, at most
const { HOST = "127.0.0.1", PORT = "3000", REDIS_URL = "redis://127.0.0.1:6379/0" } = process.env;

const client = createClient({ url: REDIS_URL });
const subscriber = client.duplicate();
for (const connection of [client, subscriber]) {
  connection.on("error", (error) => console.error(`redis: ${error.message}`));
  await connection.connect();
}

const page = await readFile(new URL("index.html", import.meta.url));
const http = createServer((_, response) => response.setHeader("content-type", "text/html").end(page));
const io = new Server(http, { adapter: createAdapter(client, subscriber) });

io.on("connection", async (socket) => {
  const { room } = socket.handshake.auth;
  try {
    // First the room, then the past: an event in between comes twice rather than never.
    await socket.join(room);
    socket.emit("joined", await missed(room));
  } catch (error) {
    console.error(`cannot catch up: ${error.message}`);
    socket.conn.close(); // the browser connects again
  }
});

// The newest events for a room or for everybody, the oldest first.
async function missed(room) {
  const entries = await client.xRevRange("hits", "+", "-", { COUNT: CATCH_UP });
  return entries
    .map((entry) => entry.message)
    .filter(({ rooms }) => rooms === "[]" || JSON.parse(rooms).includes(room))
    .map(({ data }) => JSON.parse(data))
    .reverse();
}

http.listen(Number(PORT), HOST, () => console.log(`http://${HOST}:${http.address().port}`));
