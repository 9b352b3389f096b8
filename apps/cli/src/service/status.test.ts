import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestPool, type TestPool } from "../testing/pool.ts";

const TOLD = {
  ...{ scope: "system", state: "waiting", sentence: "1 GPU: position 3, about 12 min" },
  ...{ waiting: 1, hold: "on-demand", idleTimeout: "30m", allowed: "user ann", session: null },
  ...{ configuration: "/etc/farpool/client-service.yaml", processes: [] },
  you: { uid: 1000, refusal: "it is for user ann" },
};
const ORDER =
  "FARPOOL_SESSION → FARPOOL=local|pool → your own service → this machine's service → the local driver → no device";

let pool: TestPool;
const servers: Server[] = [];
const sockets: Socket[] = [];
beforeAll(async () => {
  pool = await startTestPool();
});
afterAll(async () => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers) server.close();
  await pool.stop();
});

/** A service by what it answers; undefined: nothing, ever. */
async function service(name: string, answer: string | undefined): Promise<NodeJS.ProcessEnv> {
  const path = join(pool.folder, name);
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => undefined);
    if (answer !== undefined) socket.once("data", () => socket.end(answer));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return { FARPOOL_BROKER: path };
}

test("status has the service in a sentence, and where programs of this shell get their GPUs", async () => {
  const here = await service("told", `ok\njson ${JSON.stringify(TOLD)}\n\n`);

  const { stdout } = await pool.farpool(["status"], here);
  expect(stdout).toContain(
    "\nservice   this machine's, waiting: 1 GPU: position 3, about 12 min; not for you: it is for user ann\n",
  );
  expect(stdout).toContain(`\norder     ${ORDER}\nshell     programs started here use `);
  const json = JSON.parse((await pool.farpool(["status", "--json"], here)).stdout) as object;
  expect(json).toMatchObject({ services: [TOLD], programs: { order: ORDER.split(" → ") } });

  const own = await pool.farpool(["service", "status"], here);
  expect(own.status).toBe(0);
  expect(own.stdout).toContain("this machine's service: waiting: 1 GPU: position 3, about 12 min\n");
  expect(own.stdout).toContain(`\nprograms look for GPUs here: ${ORDER}\n`);
});

test("a service that does not answer keeps nobody from the pool's status", async () => {
  const here = await service("silent", undefined);

  const began = performance.now();
  const { status, stdout } = await pool.farpool(["status"], here);

  expect(status).toBe(0);
  expect(stdout).toMatch(/^servers +1 online$/m);
  expect(stdout).toMatch(/^service +this machine's, the service at .* did not answer within 2 s$/m);
  expect(performance.now() - began).toBeLessThan(8_000);
});

test("without a service there is no line of one", async () => {
  const nowhere = { FARPOOL_BROKER: join(pool.folder, "nowhere") };

  expect((await pool.farpool(["status"], nowhere)).stdout).not.toMatch(/^service/m);
  expect(await pool.farpool(["service", "status"], nowhere)).toMatchObject({
    status: 69,
    stdout: expect.stringContaining("no client service runs\n") as unknown,
  });
});
