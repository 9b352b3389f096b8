import { FarpoolError, type Client, type Machine, type MachineRole, type Server } from "@farpool/contract";
import { print, printJson, say, table } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";

export async function servers(isJson: boolean): Promise<number> {
  const { servers: all, machines } = await withPool(async (client) => {
    const { servers: list } = await client.call("listServers", {});
    return { servers: list, machines: await machinesOf(client.call("listMachines", {})) };
  });
  const joined = new Map(machines.map((machine) => [machine.id, machine]));
  if (isJson) printJson({ servers: all.map((each) => ({ ...each, machine: joined.get(each.id) ?? null })) });
  else if (all.length === 0 && machines.every(({ role }) => role !== "server")) print("no servers");
  else print(serverTable(all, machines));
  return 0;
}

/** Who is no administrator sees servers without their certificates. */
async function machinesOf(asking: Promise<{ machines: Machine[] }>): Promise<readonly Machine[]> {
  try {
    return (await asking).machines;
  } catch (error) {
    if (error instanceof FarpoolError && error.code === "FARPOOL_NOT_PERMITTED") return [];
    throw error;
  }
}

function serverTable(all: readonly Server[], machines: readonly Machine[]): string {
  const machineOf = (id: string): Machine | undefined => machines.find((machine) => machine.id === id);
  const rows = all.map((server) => {
    const machine = machineOf(server.id);
    const state = machine?.revokedAt === null || machine === undefined ? server.state : "removed";
    return [
      server.name,
      state,
      String(server.gpuCount),
      server.version,
      server.lastSeenAt,
      certificateOf(machine),
      labelsOf(server),
      server.id,
    ];
  });
  // What has joined and never run.
  for (const machine of machines) {
    if (machine.role !== "server" || all.some(({ id }) => id === machine.id)) continue;
    const state = machine.revokedAt === null ? "joined" : "removed";
    rows.push([
      machine.name,
      state,
      "0",
      "-",
      machine.lastSeenAt,
      certificateOf(machine),
      labelsOf(machine),
      machine.id,
    ]);
  }
  return table(
    ["SERVER", "STATE", "GPUS", "VERSION", "LAST SEEN", "CERTIFICATE UNTIL", "LABELS", "ID"],
    rows,
  );
}

const certificateOf = (machine: Machine | undefined): string =>
  machine === undefined ? "-" : machine.certificateExpiresAt;

function labelsOf(named: Pick<Machine, "labels"> | undefined): string {
  const text = Object.entries(named?.labels ?? {}).map(([name, value]) => `${name}=${value}`);
  return text.length === 0 ? "-" : text.join(",");
}

export async function clients(isJson: boolean): Promise<number> {
  const { clients: all, machines } = await withPool(async (client) => ({
    ...(await client.call("listClients", {})),
    ...(await client.call("listMachines", {})),
  }));
  const joined = new Map(machines.map((machine) => [machine.thumbprint, machine]));
  if (isJson)
    printJson({ clients: all.map((each) => ({ ...each, machine: joined.get(each.thumbprint) ?? null })) });
  else print(all.length === 0 ? "no clients" : clientTable(all, joined));
  return 0;
}

function clientTable(all: readonly Client[], joined: ReadonlyMap<string, Machine>): string {
  const rows = all.map((client) => {
    const machine = joined.get(client.thumbprint);
    const state = client.revokedAt !== null ? "removed" : machine === undefined ? "local" : "joined";
    return [
      client.name,
      state,
      client.user,
      String(client.sessions),
      machine?.lastSeenAt ?? client.lastSeenAt,
      certificateOf(machine),
      labelsOf(machine),
      client.thumbprint,
    ];
  });
  const header = ["CLIENT", "STATE", "USER", "SESSIONS", "LAST SEEN", "CERTIFICATE UNTIL", "LABELS", "KEY"];
  return table(header, rows);
}

export interface Removal {
  readonly role: MachineRole;
  readonly isJson: boolean;
  readonly reason: string | undefined;
}

export async function remove({ role, isJson, reason }: Removal, named: string): Promise<number> {
  const machine = await withPool(async (client) => {
    const { machines } = await client.call("listMachines", {});
    const found = findMachine(machines, role, named);
    const params = { machineId: found.id };
    return client.call("revokeMachine", { params, body: { reason: reason ?? null } });
  });
  if (isJson) printJson(machine);
  else
    say(`${machine.role} ${machine.name} is removed: its sessions have ended, its certificate opens nothing`);
  return 0;
}

/** By id, by the key's thumbprint, or by the name of a living one. */
export function findMachine(machines: readonly Machine[], role: MachineRole, named: string): Machine {
  const ours = machines.filter((machine) => machine.role === role);
  const found =
    ours.find(({ id, thumbprint }) => id === named || thumbprint === named) ??
    ours.find(({ name, revokedAt }) => revokedAt === null && name.toLowerCase() === named.toLowerCase());
  if (found !== undefined) return found;
  throw new FarpoolError("FARPOOL_NOT_FOUND", `no ${role} '${named}' has joined this pool`, {
    hint: `'farpool ${role}s' lists them; the machine of 'farpool up' itself has not joined, it is the pool's own`,
  });
}
