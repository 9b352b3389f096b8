import { chmodSync, copyFileSync, readFileSync, readdirSync, readlinkSync, statSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connectionIdSchema } from "@farpool/contract";
import { generateSigningKey } from "@farpool/identity";
import { readClaims, signProcessGrant } from "@farpool/identity/grants";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Pool, example, startPool } from "./kit/pool.ts";
import { lineOf, probeProgram, startProbe, withLine } from "./kit/probe.ts";
import { processTree } from "./kit/processes.ts";
import { type RunningProgram, execute, start, waitFor } from "./kit/program.ts";
import { within } from "./kit/within.ts";

/** Longer than a process may take from its grant to its connection. */
const LATER_MS = 61_500;
/** `nobody`: another account, whatever else it is called. */
const ANOTHER_ACCOUNT = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];

let pool: Pool;
let session: Held;
beforeAll(async () => {
  pool = await startPool(2);
  session = await hold(pool);
});
afterAll(async () => {
  session.run.child.kill("SIGTERM");
  await session.run.ended;
  await pool.stop();
});

interface Held {
  readonly run: RunningProgram;
  /** The program of the session. */
  readonly pid: number;
  readonly environment: Readonly<Record<string, string>>;
  readonly broker: string;
}

/** `farpool run` with a program that does nothing. */
async function hold(inPool: Pool): Promise<Held> {
  const words = ["run", "-n", "1", "--", "sh", "-c", "echo started; exec sleep 600"];
  const run = start([join(import.meta.dirname, "../../farpool"), ...words], {
    environment: inPool.environment,
  });
  await run.until("started\n");
  const pid = await waitFor(
    "the program",
    () => processTree(run.pid).find(({ command }) => command === "sleep 600")?.pid,
  );
  const environment = environmentOf(pid);
  return { run, pid, environment, broker: environment["FARPOOL_SESSION"] ?? "" };
}

function environmentOf(pid: number): Readonly<Record<string, string>> {
  const words = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").filter(Boolean);
  return Object.fromEntries(
    words.map((word) => [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)]),
  );
}

/** That a connection was refused for this reason; `subject` is its id, or its session's. */
async function expectAudited(reason: RegExp, subject: string, inPool = pool): Promise<void> {
  await waitFor(`${reason} about ${subject} in the audit`, async () => {
    const { status, stdout } = await inPool.farpool(["admin", "audit", "--json", "--last", "500"]);
    expect(status).toBe(0);
    const { entries } = JSON.parse(stdout) as {
      entries: readonly {
        kind: string;
        reason: string;
        connectionId: string | null;
        sessionId: string | null;
      }[];
    };
    const isIt = (entry: (typeof entries)[number]): boolean =>
      entry.kind === "refused" &&
      [entry.connectionId, entry.sessionId].includes(subject) &&
      reason.test(entry.reason);
    return entries.some(isIt) ? true : undefined;
  });
}

describe("a grant", () => {
  it.each(["tls", "unix"] as const)("lets in who it is for, over %s", async (how) => {
    const probe = startProbe();
    expect(await probe.connect(await probe.ask(session.broker), how)).toBe("admitted");
  });

  it.each([
    ["tls", /with another key than the one that connects: it was copied/],
    ["unix", /is for process \d+ of user id \d+, but process \d+ of user id \d+ connects/],
  ] as const)("lets no other process in, over %s", async (how, reason) => {
    const [owner, thief] = [startProbe(), startProbe()];
    const admission = await owner.ask(session.broker);

    expect(await thief.connect(admission, how)).toMatch(/^refused 100 /);
    expect(await thief.connect(await owner.ask(session.broker), how)).toMatch(reason);
    await expectAudited(reason, lineOf(admission, "connection"));
  });

  it.each(["tls", "unix"] as const)("takes no connection over that is there, over %s", async (how) => {
    const [owner, thief] = [startProbe(), startProbe()];
    const admission = await owner.ask(session.broker);
    expect(await owner.connect(admission, how)).toBe("admitted");

    expect(await thief.connect(admission, how)).toMatch(/^(refused|failed) /);
    expect(await thief.connect(admission, `${how} resume`)).toMatch(/^(refused|failed) /);
    await expectAudited(/was copied|is for process|another process/, lineOf(admission, "connection"));
  });

  it("lets nobody in one minute later", { timeout: 150_000 }, async () => {
    const both = (["tls", "unix"] as const).map(async (how) => {
      const probe = startProbe();
      const admission = await probe.ask(session.broker);
      await sleep(LATER_MS);
      expect(await probe.connect(admission, how)).toMatch(/^refused 100 the process grant expired \d+ s ago/);
      await expectAudited(/process grant expired/, lineOf(admission, "connection"));
    });
    await Promise.all(both);
  });

  it("lets nobody into another session", async () => {
    const other = await hold(pool);
    try {
      const probe = startProbe();
      const own = await probe.ask(session.broker);
      const foreign = await probe.ask(other.broker);
      const mixed = withLine(foreign, "grant", lineOf(own, "grant"));
      expect(await probe.connect(mixed, "tls")).toMatch(/^refused 100 the grant is for the session/);
      await expectAudited(/the grant is for the session/, lineOf(foreign, "connection"));
      // The session named in clear is not the one the token was made for.
      const renamed = withLine(own, "session", lineOf(foreign, "session"));
      expect(await probe.connect(renamed, "tls")).toMatch(/^refused 100 /);
    } finally {
      other.run.child.kill("SIGTERM");
      await other.run.ended;
    }
  });

  it("that is forged lets nobody in", async () => {
    const probe = startProbe();
    const forge = async (change: (grant: string, admission: string) => string | Promise<string>) => {
      const admission = await probe.ask(session.broker);
      const forged = await change(lineOf(admission, "grant"), admission);
      const outcome = await probe.connect(withLine(admission, "grant", forged), "tls");
      return { outcome, connection: lineOf(admission, "connection") };
    };
    const parts = (grant: string): [string, string, string] => {
      const [head = "", body = "", signature = ""] = grant.split(".");
      return [head, body, signature];
    };
    const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");

    const changed = await forge((grant) => {
      const [head, , signature] = parts(grant);
      const exp = Math.floor(Date.now() / 1_000) + 3_600;
      return [head, encode({ ...readClaims(grant), exp }), signature].join(".");
    });
    expect(changed.outcome).toMatch(/^refused 100 .*signature of the process grant/);
    await expectAudited(/signature of the process grant/, changed.connection);

    const unsigned = await forge((grant) => [encode({ alg: "none" }), parts(grant)[1], ""].join("."));
    expect(unsigned.outcome).toMatch(/^refused 100 /);

    const foreign = await forge((grant, admission) => {
      const claims = readClaims(grant);
      return signProcessGrant(generateSigningKey(), {
        sessionGrant: String(claims["session"]),
        connectionId: connectionIdSchema.parse(lineOf(admission, "connection")),
        processKey: new Uint8Array(44),
        uid: 0,
        pid: probe.pid,
        start: Number(claims["start"]),
        program: "forged",
        signedAt: Math.floor(Date.now() / 1_000),
      });
    });
    expect(foreign.outcome).toMatch(/^refused 100 .*signed by the key .* but the session was granted to/);
    await expectAudited(/but the session was granted to/, foreign.connection);

    const none = await forge(() => "-");
    expect(none.outcome).toMatch(/^refused 100 .*cannot be read/);
  });

  it("without the routing token's proof starts no worker", async () => {
    const probe = startProbe();
    const admission = await probe.ask(session.broker);
    for (const how of ["tls", "unix"] as const) {
      const outcome = await probe.connect(withLine(admission, "token", "00".repeat(32)), how);
      expect(outcome).toMatch(/^refused 100 /);
    }
  });

  it("that was recorded on the wire and sent again lets nobody in", async () => {
    const probe = startProbe();
    const admission = await probe.ask(session.broker);
    const recorder = await record(pool.dataPort);
    const through = withLine(admission, "endpoint tls", `127.0.0.1:${recorder.port}`);
    expect(await probe.connect(through, "tls")).toBe("admitted");
    recorder.close();

    const answer = await sendRaw(pool.dataPort, recorder.sent());
    // Its handshake is another one, so what was said then opens nothing now.
    expect(answer.ended).toBe(true);
    const again = startProbe();
    expect(await again.connect(await again.ask(session.broker), "tls")).toBe("admitted");
  });
});

describe("another account with a copy of a program's environment", () => {
  it("cannot ask the broker, and is not let in with what the broker said", async () => {
    const copy = join(pool.folder, "farpool-probe");
    copyFileSync(probeProgram, copy);
    chmodSync(copy, 0o755);
    const owner = startProbe();
    const admission = await owner.ask(session.broker);
    const thief = startProbe(ANOTHER_ACCOUNT, copy);
    expect(await thief.connect(admission, "tls")).toMatch(/^refused 100 .*it was copied/);
    expect(await thief.connect(admission, "unix")).toMatch(/^(failed .*ermission denied|refused 100 )/);
    const asking = startProbe(ANOTHER_ACCOUNT, copy);
    await expect(asking.ask(session.broker)).rejects.toThrow(/ermission denied/);
  });

  it("runs no program on the session's GPU", async () => {
    const all = { ...session.environment };
    const result = await execute([...ANOTHER_ACCOUNT, example("vector-add")], { environment: all });

    expect(result.status).not.toBe(0);
    expect(result.stdout).not.toContain("PASSED");
  });
});

describe("a program of the session", () => {
  it("finds neither the machine's key, nor the session's secret, nor its own key where it can read", async () => {
    const run = pool.start(["run", "-n", "1", "--", example("busy"), "1000000"], {
      environment: { FARPOOL_TRANSPORT: "tcp" },
    });
    await run.until("round 2\n");
    const { id } = await pool.sessionOf(run);
    const { secret } = await pool.client.call("connectSession", { params: { sessionId: id } });
    const key = machineKey();
    const pid = processTree(run.pid).find(({ command }) => command.includes("busy 1000000"))?.pid ?? 0;
    const secrets = [secret, Buffer.from(secret, "hex"), ...key, "PRIVATE KEY"].map((text) =>
      Buffer.from(text),
    );

    const seen = readableFiles(pid);
    expect(seen.length).toBeGreaterThan(20);
    for (const { path, bytes } of seen) {
      for (const [number, text] of secrets.entries()) {
        expect(bytes.includes(text), `secret ${number} in ${path}`).toBe(false);
      }
    }
    process.kill(pid, "SIGKILL");
    await run.ended;
  });
});

describe("a client that was revoked", () => {
  it("is not let in with what it had been given before", async () => {
    const own = await startPool();
    try {
      const held = await hold(own);
      const probe = startProbe();
      const admission = await probe.ask(held.broker);
      const { clients } = await own.client.call("listClients", {});
      const [client] = clients;
      if (client === undefined) throw new Error("the pool knows no client");
      const revoked = await own.farpool(["admin", "clients", "revoke", "--", client.thumbprint]);
      expect(revoked).toMatchObject({ status: 0 });
      const outcome = await waitFor("a refusal", async () => {
        const line = await probe.connect(admission, "tls");
        return line === "admitted" ? undefined : line;
      });

      expect(outcome).toMatch(/^refused /);
      held.run.child.kill("SIGTERM");
      await within("the end of farpool run", held.run.ended);
      const refused = await own.farpool(["run", "-n", "1", "--", "true"]);
      expect(refused.status).not.toBe(0);
      expect(refused.stderr).toMatch(/revoked/);
      const audit = await own.farpool(["admin", "audit", "--json"]);
      expect(audit.stdout).toContain("client-revoked");
      // Its session has ended with it: the acceptor looks no further.
      await expectAudited(/session|revoked/, lineOf(admission, "session"), own);
    } finally {
      await own.stop();
    }
  });
});

/** The machine's private key, as its file spells it and as bytes. */
function machineKey(): readonly (string | Buffer)[] {
  const file = readdirSync(pool.folder).find((name) => name.includes("client") && name.includes("key"));
  if (file === undefined) throw new Error(`no client key in ${readdirSync(pool.folder).join(" ")}`);
  const text = readFileSync(join(pool.folder, file), "utf8");
  const lines = text.split("\n").filter((line) => line.length > 30 && !line.startsWith("-----"));
  if (lines.length === 0) throw new Error(`no key in ${file}`);
  // The last 32 bytes of PKCS#8 are the secret itself.
  return [...lines, Buffer.from(lines.join(""), "base64").subarray(-32)];
}

interface Seen {
  readonly path: string;
  readonly bytes: Buffer;
}

/** What a process can read below /proc/self, its code and memory aside, and in the files that it has open. */
function readableFiles(pid: number): readonly Seen[] {
  const folder = `/proc/${pid}`;
  const paths = readdirSync(folder)
    .filter((name) => !["exe", "mem", "pagemap", "clear_refs"].includes(name))
    .map((name) => join(folder, name));
  const open = readdirSync(join(folder, "fd")).map((name) => join(folder, "fd", name));
  return [...paths, ...open.filter((path) => readlinkSync(path).startsWith("/"))].flatMap((path) => {
    try {
      return statSync(path).isFile() ? [{ path, bytes: readFileSync(path) }] : [];
    } catch {
      // Not readable for root either, as some files of a kernel thread.
      return [];
    }
  });
}

interface Recorder {
  readonly port: number;
  sent(): Buffer;
  close(): void;
}

/** Forwards one connection and keeps what the client says. */
async function record(port: number): Promise<Recorder> {
  const sent: Buffer[] = [];
  const server = createServer((client) => {
    const target = connect(port, "127.0.0.1");
    client.on("data", (bytes: Buffer) => sent.push(bytes));
    client.on("error", () => target.destroy());
    target.on("error", () => client.destroy());
    client.pipe(target).pipe(client);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { port: address.port, sent: () => Buffer.concat(sent), close: () => void server.close() };
}

async function sendRaw(port: number, bytes: Buffer): Promise<{ readonly ended: boolean }> {
  const socket = connect(port, "127.0.0.1");
  let ended = false;
  socket.on("error", () => undefined);
  socket.on("close", () => (ended = true));
  socket.on("end", () => (ended = true));
  socket.resume();
  socket.write(bytes);
  await waitFor("the end of the replayed connection", () => ended || undefined);
  socket.destroy();
  return { ended };
}
