// The plain loop: BLPOP, then push, with so many in flight. Popped messages die with the process.
import Redis from "ioredis";
import { sender } from "./senders.mjs";

const redis = new Redis(process.env.BENCH_REDIS);
const send = await sender(process.env.BENCH_WORK);
const many = process.env.BENCH_WORK === "pusher";
let free = Number(process.env.BENCH_CONCURRENCY);
let freed = () => {};

const deliver = async (messages) => {
  try {
    await send(messages);
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
  free += 1;
  freed();
};

for (;;) {
  if (free === 0) await new Promise((resolve) => (freed = resolve));
  const [, element] = await redis.blpop("bench", 0);
  // Pusher takes up to ten events in one request.
  const more = many ? ((await redis.lpop("bench", 9)) ?? []) : [];
  free -= 1;
  deliver([element, ...more].map((text) => JSON.parse(text)));
}
