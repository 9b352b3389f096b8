import { FarpoolError, type AuditEntry, type Client } from "@farpool/contract";
import { counted, print, printJson, say, table } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";

export async function clients(isJson: boolean): Promise<number> {
  const answer = await withPool((client) => client.call("listClients", {}));
  if (isJson) printJson(answer);
  else print(answer.clients.length === 0 ? "no clients" : clientTable(answer.clients));
  return 0;
}

function clientTable(all: readonly Client[]): string {
  const rows = all.map((client) => [
    client.name,
    client.user,
    client.thumbprint,
    String(client.sessions),
    client.lastSeenAt,
    client.revokedAt === null ? "-" : [client.revokedAt, client.revokedReason ?? ""].join(" ").trimEnd(),
  ]);
  return table(["CLIENT", "USER", "KEY", "SESSIONS", "LAST SEEN", "REVOKED"], rows);
}

interface Revocation {
  readonly isJson: boolean;
  readonly reason: string | undefined;
}

export async function revoke({ isJson, reason }: Revocation, named: string): Promise<number> {
  const { before, revoked } = await withPool(async (client) => {
    const { clients: all } = await client.call("listClients", {});
    const found = findClient(all, named);
    const params = { thumbprint: found.thumbprint };
    const answer = await client.call("revokeClient", { params, body: { reason: reason ?? null } });
    return { before: found, revoked: answer };
  });
  if (isJson) {
    printJson(revoked);
    return 0;
  }
  const who = `${revoked.user}@${revoked.name} (key ${revoked.thumbprint})`;
  if (before.revokedAt === null) say(`${who} is revoked; ${counted(before.sessions, "session")} ended`);
  else say(`${who} was revoked already, at ${before.revokedAt}`);
  return 0;
}

/** A client by its key, or by its name when no other has the same. */
export function findClient(all: readonly Client[], named: string): Client {
  const byKey = all.find(({ thumbprint }) => thumbprint === named);
  if (byKey !== undefined) return byKey;
  const byName = all.filter(({ name }) => name === named);
  // Who was revoked under this name is no reason to ask again.
  const living = byName.filter(({ revokedAt }) => revokedAt === null);
  const [only, ...others] = living.length > 0 ? living : byName;
  if (only === undefined) {
    throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no client '${named}'`, {
      hint: "'farpool admin clients list' lists them, by key and name",
    });
  }
  if (others.length === 0) return only;
  const keys = [only, ...others].map(({ user, thumbprint }) => `${thumbprint} (${user})`);
  throw new FarpoolError(
    "FARPOOL_USAGE",
    `${keys.length} clients are called '${named}': ${keys.join(", ")}`,
    {
      hint: "name the one you mean by its key",
    },
  );
}

export async function audit(isJson: boolean, last: number): Promise<number> {
  const answer = await withPool((client) => client.call("audit", { query: { last } }));
  if (isJson) printJson(answer);
  else print(answer.entries.length === 0 ? "nothing yet" : answer.entries.toReversed().map(line).join("\n"));
  return 0;
}

/** As a log: the newest last. */
function line(entry: AuditEntry): string {
  const who = entry.clientName === null ? undefined : `${entry.user ?? "?"}@${entry.clientName}`;
  const facts = [
    entry.sessionId === null ? undefined : `session ${entry.sessionId}`,
    entry.connectionId === null ? undefined : `connection ${entry.connectionId}`,
    who,
    entry.serverName === null ? undefined : `on ${entry.serverName}`,
    entry.peer === null ? undefined : `from ${entry.peer}`,
  ].filter((fact) => fact !== undefined);
  const about = facts.length === 0 ? "" : `${facts.join(", ")}: `;
  return `${entry.at}  ${entry.kind.padEnd(15)}  ${about}${entry.reason}`;
}
