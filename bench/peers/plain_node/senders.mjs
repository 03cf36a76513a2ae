// How the plain loop sends: undici for webhooks, Pusher's own library, Node's HTTP/2 for APNs and FCM.
import { readFileSync } from "node:fs";
import { Agent } from "node:http";
import http2 from "node:http2";
import Pusher from "pusher";
import { Pool } from "undici";

const url = process.env.BENCH_URL;
const concurrency = Number(process.env.BENCH_CONCURRENCY);

const webhook = () => {
  const pool = new Pool(url, { connections: concurrency });
  return async ([message]) => {
    const [name, body] = message.payload ? [message.provider, message.payload] : ["hook", message];
    const response = await pool.request({
      path: `/${name}`,
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    await response.body.dump();
    if (response.statusCode >= 300) throw new Error(`status ${response.statusCode}`);
  };
};

const library = () => {
  const { hostname: host, port } = new URL(url);
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency });
  return new Pusher({ appId: "3", key: "k", secret: "s", host, port, useTLS: false, agent });
};

const pusher = () => {
  const channels = library();
  return (messages) =>
    channels.triggerBatch(messages.map(({ channel, ...data }) => ({ channel, name: "hit", data })));
};

const single = () => {
  const channels = library();
  return ([{ channels: names, ...data }]) => channels.trigger(names, "hit", data);
};

// One connection, as Apple wants it; a token is made once, so none is made here.
const streams = (request) => {
  const session = http2.connect(url, { ca: readFileSync(process.env.BENCH_CA) });
  return ([message]) =>
    new Promise((resolve, reject) => {
      const [headers, body] = request(message);
      const stream = session.request({ ":method": "POST", authorization: "bearer x", ...headers });
      stream.on("response", ({ ":status": status }) => {
        if (status >= 300) reject(new Error(`status ${status}`));
      });
      stream.on("error", reject);
      stream.on("end", resolve);
      stream.resume();
      stream.end(JSON.stringify(body));
    });
};

const apns = () =>
  streams(({ device_token: device, ...body }) => [
    { ":path": `/3/device/${device}`, "apns-topic": "com.example.app", "apns-push-type": "alert" },
    body,
  ]);

const fcm = () =>
  streams((message) => [
    { ":path": "/v1/projects/bench/messages:send", "content-type": "application/json" },
    { message },
  ]);

const senders = { webhook, mixed: webhook, pusher, "pusher-single": single, apns, fcm };

export const sender = async (work) => senders[work]();
