import { sign } from "node:crypto";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import {
  createClient,
  fetchAuthority,
  openMembership,
  toMembership,
  writePrivate,
  type OpenMembership,
} from "@farpool/client-api";
import { joinProof, parseJoinString, TIMES, type MachineRole } from "@farpool/contract";
import { exportSigningKey, generateSigningKey, type SigningKey } from "@farpool/identity";
import { temporaryFolder, type TestServer } from "@farpool/testkit";
import { pino } from "pino";
import { onTestFinished } from "vitest";
import { startManager } from "../manager.ts";

const DAY_MS = 86_400_000;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** A manager whose days the test lets pass. */
export async function startClockedPool(postgres: TestServer) {
  const folder = temporaryFolder();
  const port = await freePort();
  const socketPath = join(folder.path, "manager.sock");
  let days = 0;
  const now = (): number => Date.now() + days * DAY_MS;
  const connection = await postgres.createDatabase();
  const start = (at: number, socket: string) =>
    startManager({
      connection,
      databaseKind: "external",
      socketPath: socket,
      tcp: { host: "127.0.0.1", port: at },
      time: () => Promise.resolve(new Date(now())),
      tokenFile: join(folder.path, "token"),
      graceMs: TIMES.graceMs,
      logger: pino({ level: "silent" }),
    });
  const manager = await start(port, socketPath);
  const admin = createClient({ kind: "unix", path: socketPath });
  onTestFinished(async () => {
    admin.close();
    await manager.stop();
    folder[Symbol.dispose]();
  });

  /** What `farpool join` does, in files of its own. */
  async function joinAs(role: MachineRole, name: string, key: SigningKey = generateSigningKey()) {
    const token = await admin.call("createJoinToken", { body: { role, validSeconds: 365 * 86_400 } });
    const invitation = parseJoinString(token.join);
    const authority = await fetchAuthority(invitation);
    const client = createClient({ kind: "https", host: "127.0.0.1", port, authority, token: null });
    const certificate = await client.call("joinPool", {
      body: {
        ...{ secret: invitation.secret, name, publicKey: key.publicKey },
        proof: sign(null, joinProof(invitation.secret), key.privateKey).toString("base64url"),
      },
    });
    client.close();
    const files = {
      membership: join(folder.path, `${name}.json`),
      key: join(folder.path, `${name}.pem`),
    };
    writeFileSync(files.key, exportSigningKey(key), { mode: 0o600 });
    writePrivate(files.membership, toMembership(certificate, { host: "127.0.0.1", port, now: now() }));
    return { files, key, machineId: certificate.machineId };
  }

  const { authority: firstAuthority } = await admin.call("authority", {});
  const address = (at = port) =>
    ({ kind: "https", host: "127.0.0.1", port: at, authority: firstAuthority, token: null }) as const;

  return {
    /** As it was in the beginning. */
    firstAuthority,
    address,
    /** A second manager on the same database. */
    async replica() {
      const [otherPort, socket] = [await freePort(), join(folder.path, "replica.sock")];
      const other = await start(otherPort, socket);
      const otherAdmin = createClient({ kind: "unix", path: socket });
      onTestFinished(async () => {
        otherAdmin.close();
        await other.stop();
      });
      return { admin: otherAdmin, address: address(otherPort) };
    },
    admin,
    folder: folder.path,
    joinAs,
    open: ({ files }: Awaited<ReturnType<typeof joinAs>>): OpenMembership => {
      const membership = openMembership(files, now);
      if (membership === undefined) throw new Error("it has not joined");
      return membership;
    },
    pass(more: number): void {
      days += more;
    },
  };
}

/** Asks the manager that the machine has joined by, or another one. */
export async function whoAmI(membership: OpenMembership, other?: { readonly port: number }) {
  const own = membership.address();
  const client = createClient(
    own.kind === "https" && other !== undefined ? { ...own, port: other.port } : own,
  );
  try {
    return await client.call("whoAmI", { query: {} });
  } finally {
    client.close();
  }
}
