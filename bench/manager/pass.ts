import { randomUUID } from "node:crypto";
import {
  inventorySchema,
  serverIdSchema,
  sessionRequestSchema,
  type SessionRequest,
} from "@farpool/contract";
import { generateSigningKey } from "@farpool/identity";
import { fakeInventory, GIB, startTestServer } from "@farpool/testkit";
import { connect, inPlacement, nowPlus, type Database } from "../../apps/manager/src/database/connect.ts";
import { migrate } from "../../apps/manager/src/database/migrate.ts";
import { runPlacementPass } from "../../apps/manager/src/placement/pass.ts";
import { registerAgent } from "../../apps/manager/src/servers/register.ts";
import { createSession } from "../../apps/manager/src/sessions/create.ts";
import { endSession, releaseInPlacement, type Released } from "../../apps/manager/src/sessions/end.ts";

export interface PassCost {
  readonly name: string;
  readonly rounds: number;
  /** Of the manager's process, without the database. Medians. */
  readonly processorMs: number;
  readonly wallMs: number;
}

const ROUNDS = 31;
const WAITING = 100;
const KEY = generateSigningKey();

interface Pool {
  readonly servers: number;
  readonly gpusPerServer: number;
}

/** What requests and passes cost the manager with everything that they read and write: its functions, on a real PostgreSQL. */
export async function measurePasses({ servers, gpusPerServer }: Pool): Promise<readonly PassCost[]> {
  const postgres = await startTestServer();
  const db = connect(await postgres.createDatabase(), (error) => {
    throw error;
  });
  const pool = servers * gpusPerServer;
  try {
    await migrate(db);
    for (let number = 0; number < servers; number += 1) await addServer(db, number, gpusPerServer);
    const plain = await time(
      `a request for 1 of ${pool} GPUs, nobody waits`,
      () => grantOne(db, []),
      undo(db),
    );
    const filtered = await time(
      `the same with a filter that nobody has sent before`,
      (round) => grantOne(db, [`gpu.memory>=${round + 1}MiB`]),
      undo(db),
    );
    // Who takes whole servers leaves no crumbs: all is taken.
    for (let number = 0; number < servers; number += 1)
      await createSession(db, request(gpusPerServer, { number }));
    for (let number = 0; number < WAITING; number += 1)
      await createSession(db, request([1, 2, 8][number % 3] ?? 1, { number }));
    const pass = await time(`a pass over ${WAITING} waiting, all ${pool} GPUs taken`, () =>
      inPlacement(db, (tx) => runPlacementPass(tx)),
    );
    return [plain, filtered, pass];
  } finally {
    await db.destroy();
    await postgres.stop();
  }
}

async function addServer(db: Database, number: number, gpuCount: number): Promise<void> {
  const serverId = serverIdSchema.parse(randomUUID());
  const gpus = Array.from({ length: gpuCount }, (_, index) => ({
    uuid: `GPU-${serverId}-${index}`,
    name: "Bench GPU 80GB",
    memoryTotalBytes: 80 * GIB,
  }));
  await registerAgent(db, {
    ...{ serverId, name: `gpu-${String(number).padStart(4, "0")}`, version: "0.1.0" },
    endpoints: [{ kind: "tls", host: "192.0.2.1", port: 7445 }],
    inventory: inventorySchema.parse(fakeInventory(gpus)),
    labels: { rack: String(number % 40) },
  });
  // As those are that have just spoken, for as long as this takes.
  await db
    .updateTable("servers")
    .set({ acceptor_ready: true, last_seen_at: nowPlus(3_600_000) })
    .where("id", "=", serverId)
    .execute();
}

async function grantOne(db: Database, filters: readonly string[]): Promise<Released> {
  const { id, state, serverId } = await createSession(db, request(1, { number: 0, filters }));
  if (serverId === null) throw new Error(`the session ${id} is ${state}, expected it to be granted`);
  return { id, serverId };
}

const undo =
  (db: Database) =>
  async (held: Released): Promise<void> => {
    await endSession(db, held.id, { reason: "finished", message: null });
    await inPlacement(db, (tx) => releaseInPlacement(tx, [held]));
  };

function request(
  count: number,
  { number, filters = [] }: { readonly number: number; readonly filters?: readonly string[] },
): SessionRequest {
  return sessionRequestSchema.parse({
    ...{ count, size: { kind: "whole" }, name: null, waitMs: null, clientKey: KEY.publicKey, project: null },
    client: { host: `client-${number % 40}`, user: `user-${number % 20}`, pid: 42, program: "train" },
    filters,
    maxDurationMs: number % 3 === 0 ? 7_200_000 : null,
  });
}

async function time<T>(
  name: string,
  work: (round: number) => Promise<T>,
  after: (result: T) => Promise<void> = () => Promise.resolve(),
): Promise<PassCost> {
  const samples: Array<{ readonly wallMs: number; readonly processorMs: number }> = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const before = process.cpuUsage();
    const startedAt = performance.now();
    const result = await work(round);
    const wallMs = performance.now() - startedAt;
    const { user, system } = process.cpuUsage(before);
    samples.push({ wallMs, processorMs: (user + system) / 1_000 });
    await after(result);
  }
  const median = (values: readonly number[]): number =>
    values.toSorted((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? 0;
  return {
    name,
    rounds: ROUNDS,
    processorMs: median(samples.map(({ processorMs }) => processorMs)),
    wallMs: median(samples.map(({ wallMs }) => wallMs)),
  };
}
