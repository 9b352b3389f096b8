import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createClient } from "@farpool/client-api";
import { sessionIdSchema, TIMES } from "@farpool/contract";
import { startTestServer, temporaryFolder, waitFor, type TestServer } from "@farpool/testkit";
import { pino } from "pino";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { startManager } from "../manager.ts";
import { ask, registerServer } from "../testing/pool.ts";
import { managerMetricTable } from "./metrics.ts";

let postgres: TestServer;
beforeAll(async () => {
  postgres = await startTestServer();
});
afterAll(() => postgres.stop());

async function start(metrics: { host: string; port: number } | null) {
  const folder = temporaryFolder();
  const socketPath = join(folder.path, "manager.sock");
  const lines: string[] = [];
  const manager = await startManager({
    connection: await postgres.createDatabase(),
    databaseKind: "external",
    socketPath,
    tcp: null,
    tokenFile: join(folder.path, "token"),
    graceMs: TIMES.graceMs,
    logger: pino({ level: "info" }, { write: (line: string) => lines.push(line) }),
    metrics,
  });
  const client = createClient({ kind: "unix", path: socketPath });
  onTestFinished(async () => {
    client.close();
    await manager.stop();
    folder[Symbol.dispose]();
  });
  return { client, lines };
}

const port = 20_000 + ((process.pid + 7_919) % 20_000);
const url = `http://127.0.0.1:${port}/metrics`;
const scrape = async (): Promise<string> => (await fetch(url)).text();

test("metrics tell of sessions, queue, GPUs, grants and the API, and name nobody", async () => {
  const { client } = await start({ host: "127.0.0.1", port });
  await registerServer(client, 2);
  const first = await ask(client, 1);
  await ask(client, 1, { size: { kind: "share", share: 0.5 } });
  await ask(client, 2);
  const before = await scrape();
  for (const line of [
    'farpool_sessions{state="granted",part="manager"} 2',
    'farpool_sessions{state="queued",part="manager"} 1',
    'farpool_queue_sessions{part="manager"} 1',
    'farpool_queue_gpus{part="manager"} 2',
    'farpool_gpus{state="whole",part="manager"} 1',
    'farpool_gpus{state="shared",part="manager"} 1',
    'farpool_gpus{state="free",part="manager"} 0',
    'farpool_servers{state="online",part="manager"} 1',
    'farpool_session_events_total{state="granted",part="manager"} 2',
    'farpool_database_up{part="manager"} 1',
    `farpool_gpu_memory_bytes{kind="granted",part="manager"} ${24 * 2 ** 30}`,
  ])
    expect(before).toContain(`${line}\n`);
  expect(before).toMatch(/farpool_http_request_seconds_count\{.*route="\/v1\/sessions",status="200"\} 3/);
  expect(before).toMatch(/farpool_queue_oldest_seconds\{part="manager"\} 0\.\d+/);
  expect(before).toMatch(/farpool_placement_seconds_count\{part="manager"\} [1-9]/);

  await client.call("endSession", { params: { sessionId: first.id }, body: { reason: "finished" } });
  const after = await scrape();
  expect(after).toContain('farpool_sessions_ended_total{reason="finished",part="manager"} 1\n');

  for (const secret of ["dev1", "ws-17", "train", first.id]) expect(after).not.toContain(secret);
});

test("a path that was made up makes no series of its own", async () => {
  const { client } = await start({ host: "127.0.0.1", port });
  await expect(
    client.call("showSession", { params: { sessionId: sessionIdSchema.parse("s-nobody") } }),
  ).rejects.toThrow("no session");
  const text = await scrape();
  expect(text).toContain('route="/v1/sessions/:sessionId",status="404"');
  expect(text).not.toContain("s-nobody");
  expect((await fetch(url.replace("/metrics", "/other"))).status).toBe(404);
});

test("nobody listens when nobody asked for metrics", async () => {
  await start(null);
  await expect(fetch(url)).rejects.toThrow("fetch failed");
});

test("a port that is taken is named", async () => {
  await start({ host: "127.0.0.1", port });
  await expect(start({ host: "127.0.0.1", port })).rejects.toThrow(
    /the port \d+ of 127.0.0.1 for metrics is taken/,
  );
});

test("a request that changes something is a line of the log, with the id that the answer has", async () => {
  const { client, lines } = await start(null);
  await registerServer(client, 1);
  await ask(client, 1);
  const line = await waitFor("the line", () => lines.find((each) => each.includes('"/v1/sessions"')));
  expect(JSON.parse(line)).toMatchObject({
    requestId: expect.stringMatching(/^[0-9a-f]{16}$/),
    method: "POST",
    route: "/v1/sessions",
    status: 200,
    ms: expect.any(Number),
  });
  expect(lines.some((each) => each.includes("heartbeat"))).toBe(false);
});

test("the dashboard asks for metrics that there are", () => {
  const docs = fileURLToPath(new URL("../../../../docs", import.meta.url));
  const dashboard = readFileSync(join(docs, "dashboards/farpool.json"), "utf8");
  const known = readFileSync(join(docs, "reference/metrics.md"), "utf8");
  const asked = new Set([...dashboard.matchAll(/farpool_\w+/g)].map(([name]) => name));
  expect(asked.size).toBeGreaterThan(15);
  for (const name of asked) expect(known).toContain(`\`${name.replace(/_(?:bucket|count|sum)$/, "")}\``);
  expect(managerMetricTable()).not.toMatch(/\b(?:user|program|client|session)_?(?:name|id)?`/);
});
