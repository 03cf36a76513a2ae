// Adds jobs, one for each line of standard input: in bulk, or each alone with its own time (`--steady`).
// Each line that is asked to be there (an empty line) is answered by one once all before it are added.
import { createInterface } from "node:readline";
import { Queue } from "bullmq";

const redis = new URL(process.env.BENCH_REDIS);
const queue = new Queue("bench", { connection: { host: redis.hostname, port: Number(redis.port) } });
const steady = process.argv.includes("--steady");
let jobs = [];

const added = async () => {
  await queue.addBulk(jobs);
  jobs = [];
};

for await (const line of createInterface({ input: process.stdin })) {
  if (!line) {
    if (jobs.length) await added();
    console.log("");
  } else if (steady) {
    const data = JSON.parse(line);
    if ("t" in data) data.t = (performance.timeOrigin + performance.now()) / 1000;
    queue.add("push", data);
  } else {
    jobs.push({ name: "push", data: JSON.parse(line) });
    if (jobs.length === 1000) await added();
  }
}
await queue.close();
