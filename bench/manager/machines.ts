import { sign } from "node:crypto";
import { createClient, type ManagerAddress, type ManagerClient } from "@farpool/client-api";
import {
  joinProof,
  parseJoinString,
  serverIdSchema,
  type MachineRole,
  type ServerId,
} from "@farpool/contract";
import { exportSigningKey, generateSigningKey, type SigningKey } from "@farpool/identity";
import { fakeInventory, GIB } from "@farpool/testkit";
import type { BenchManager } from "./pool.ts";

/** A machine that has joined, with a connection and a certificate of its own. */
export interface Joined {
  readonly id: string;
  readonly key: SigningKey;
  readonly client: ManagerClient;
}

/** So many join at once: each costs the manager a signature. */
const AT_ONCE = 16;

export async function joinMachines(
  { client, place }: BenchManager,
  role: MachineRole,
  count: number,
): Promise<readonly Joined[]> {
  const { join } = await client.call("createJoinToken", { body: { role, uses: count, url: null } });
  const { secret } = parseJoinString(join);
  const door = createClient({ ...place, token: null });
  const joined: Joined[] = [];
  for (let from = 0; from < count; from += AT_ONCE) {
    const numbers = Array.from({ length: Math.min(AT_ONCE, count - from) }, (_, each) => from + each);
    joined.push(...(await Promise.all(numbers.map((number) => joinOne(number)))));
  }
  door.close();
  return joined;

  async function joinOne(number: number): Promise<Joined> {
    const key = generateSigningKey();
    const { machineId, certificate } = await door.call("joinPool", {
      body: {
        ...{ secret, role, name: `${role}-${number}`, publicKey: key.publicKey },
        proof: sign(null, joinProof(secret), key.privateKey).toString("base64url"),
      },
    });
    const credentials = { certificate, privateKey: exportSigningKey(key) };
    const address: ManagerAddress = { ...place, token: null, credentials: () => credentials };
    return { id: machineId, key, client: createClient(address) };
  }
}

export interface BenchServer {
  readonly id: ServerId;
  readonly client: ManagerClient;
}

/** Servers that have registered and take sessions. */
export async function registerServers(
  manager: BenchManager,
  { servers, gpusPerServer }: { readonly servers: number; readonly gpusPerServer: number },
): Promise<readonly BenchServer[]> {
  const machines = await joinMachines(manager, "server", servers);
  const registered: BenchServer[] = [];
  for (const [number, { id, client }] of machines.entries()) {
    const serverId = serverIdSchema.parse(id);
    const gpus = Array.from({ length: gpusPerServer }, (_, index) => ({
      uuid: `GPU-${serverId}-${index}`,
      name: "Bench GPU 80GB",
      memoryTotalBytes: 80 * GIB,
    }));
    await client.call("registerAgent", {
      body: {
        ...{ serverId, name: `gpu-${String(number).padStart(4, "0")}`, version: "0.1.0" },
        endpoints: [{ kind: "tls", host: "192.0.2.1", port: 7445 }],
        inventory: fakeInventory(gpus),
        labels: { rack: String(number % 40) },
      },
    });
    const params = { serverId };
    await client.call("heartbeatAgent", { params, body: { inventory: null, acceptorReady: true } });
    registered.push({ id: serverId, client });
  }
  return registered;
}
