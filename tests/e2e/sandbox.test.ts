import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { SessionDetail } from "@farpool/contract";
import { type Pool, example, startPool } from "./kit/pool.ts";

// A client that has taken its worker over is played by a driver: it tries what an attacker would at the first launch
// of a kernel (tests/programs/libraries/hostile-driver.cu).

const folder = mkdtempSync(join(tmpdir(), "farpool-hostile-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const secret = join(folder, "secret");
writeFileSync(secret, "nobody's business", { mode: 0o600 });

function startHostilePool(name: string, more: Readonly<Record<string, string>> = {}): Promise<Pool> {
  return startPool(
    1,
    {
      FARPOOL_SIMGPU_HOSTILE_REPORT: join(folder, name),
      FARPOOL_SIMGPU_HOSTILE_SECRET: secret,
      ...more,
    },
    { words: ["--driver", example("hostile-driver.so")] },
  );
}

/** What became of each attempt. */
function attempts(name: string): Readonly<Record<string, string>> {
  const lines = readFileSync(join(folder, name), "utf8").trim().split("\n");
  return Object.fromEntries(lines.map((line) => line.split(": ", 2)));
}

async function lastSession(pool: Pool): Promise<SessionDetail> {
  const { sessions } = await pool.client.call("listSessions", { query: { ended: 1 } });
  const id = sessions[0]?.id;
  if (id === undefined) throw new Error("there was no session");
  const shown = await pool.farpool(["sessions", "show", id, "--json"]);
  expect(shown).toMatchObject({ status: 0, stderr: "" });
  return JSON.parse(shown.stdout) as SessionDetail;
}

async function sandboxLine(pool: Pool): Promise<string | undefined> {
  const { stdout } = await pool.farpool(["doctor"]);
  return stdout.split("\n").find((line) => line.includes("its workers"));
}

describe("a worker in the hands of an attacker", () => {
  let pool: Pool;
  beforeAll(async () => {
    pool = await startHostilePool("strict");
  });
  afterAll(() => pool.stop());

  it("reaches no file, process or socket, and is ended by the kernel at an attack on memory", async () => {
    const result = await pool.farpool(["run", "-n", "1", "--", example("vector-add")]);

    expect(result.status).not.toBe(0);
    const refused = "Operation not permitted";
    expect(attempts("strict")).toEqual({
      "read a secret": "Permission denied",
      "write a secret": "Permission denied",
      "change a mode": refused,
      "read the parent's environment": "Permission denied",
      execute: refused,
      fork: refused,
      "connect to the manager": refused,
      listen: refused,
      "signal the parent": refused,
    });
    const session = await lastSession(pool);
    // SIGSYS.
    expect(session.processes).toMatchObject([{ exit: "signal 31" }]);
    expect(session.processes[0]?.sandbox).toEqual([
      "no-new-privileges",
      "no-capabilities",
      "not-dumpable",
      expect.stringMatching(/^landlock-\d+$/),
      "seccomp",
    ]);
    await pool.expectNothingHeld();
  });

  it("has a sandbox of which doctor tells", async () => {
    expect(await sandboxLine(pool)).toMatch(/^ok .*sandbox of its workers: .*landlock-\d+, seccomp$/);
  });
});

describe("FARPOOL_WORKER_SANDBOX=off", () => {
  let pool: Pool;
  beforeAll(async () => {
    pool = await startHostilePool("off", { FARPOOL_WORKER_SANDBOX: "off" });
  });
  afterAll(() => pool.stop());

  it("lets all of that happen", async () => {
    const result = await pool.farpool(["run", "-n", "1", "--", example("vector-add")]);

    expect(result.stdout).toMatch(/PASSED\n$/);
    const became = attempts("off");
    expect(Object.keys(became)).toHaveLength(10);
    expect(new Set(Object.values(became))).toEqual(new Set(["done"]));
    expect((await lastSession(pool)).processes).toMatchObject([{ exit: "code 0", sandbox: [] }]);
  });

  it("is what doctor warns of", async () => {
    expect(await sandboxLine(pool)).toMatch(/^warning .*its workers run without a sandbox$/);
  });
});
