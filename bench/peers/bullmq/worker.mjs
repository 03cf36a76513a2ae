// BullMQ's worker, with undici: node worker.mjs
import { Worker } from "bullmq";
import { Pool } from "undici";

const concurrency = Number(process.env.BENCH_CONCURRENCY);
const pool = new Pool(process.env.BENCH_URL, { connections: concurrency });
const redis = new URL(process.env.BENCH_REDIS);

new Worker(
  "bench",
  async ({ data }) => {
    const [name, body] = data.payload ? [data.provider, data.payload] : ["hook", data];
    const response = await pool.request({
      path: `/${name}`,
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    await response.body.dump();
    if (response.statusCode >= 300) throw new Error(`status ${response.statusCode}`);
  },
  {
    connection: { host: redis.hostname, port: Number(redis.port), maxRetriesPerRequest: null },
    concurrency,
    removeOnComplete: { count: 0 },
    removeOnFail: { count: 0 },
  },
);
