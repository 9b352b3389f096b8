import { readdirSync, readFileSync } from "node:fs";
import { databaseUrl, startTestServer, waitFor } from "@farpool/testkit";
import { expect, onTestFinished, test } from "vitest";
import { startTestPool } from "../testing/pool.ts";

/** What everybody on a machine can read of a process. */
function allArguments(): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return [readFileSync(`/proc/${pid}/cmdline`, "utf8")];
      } catch {
        return [];
      }
    });
}

test("a pool that listens, on a database that is not its own, prints what lets machines join", async () => {
  const postgres = await startTestServer();
  onTestFinished(() => postgres.stop());
  const database = await postgres.createDatabase();
  const pool = await startTestPool(["--listen", "0.0.0.0"], { FARPOOL_DATABASE: databaseUrl(database) });
  onTestFinished(async () => void (await pool.stop()));
  await pool.client.call("status", {}).then(({ database: kind }) => expect(kind).toBe("external"));
  const text = await waitFor("the last line", () =>
    pool.up.stderr().includes("within 24 hours") ? pool.up.stderr() : undefined,
  );
  expect(text).toMatch(/^sign in {2}farpool login 'https:\/\/\S+:\d+\/login#\S+' /m);
  const client = /^client {3}farpool join (farpool:\/\/\S+\/client\/\S+)$/m.exec(text)?.[1] ?? "";
  const server = /^server {3}farpool join (farpool:\/\/\S+\/server\/\S+)$/m.exec(text)?.[1] ?? "";
  expect(server).not.toBe("");
  const machine = pool.on("ws-1");
  // The name of the machine that runs the tests may lead nowhere.
  const string = client.replace(/^farpool:\/\/[^:]+:/, "farpool://127.0.0.1:");
  expect(await machine.farpool(["join", string, "--name", "ws-1"])).toMatchObject({ status: 0 });
  expect(await machine.farpool(["run", "--", "sh", "-c", "exit 3"])).toMatchObject({ status: 3 });
  expect(allArguments().join("\n")).not.toContain(encodeURIComponent(database.password));
});

test("a pool for this machine alone prints no join commands, only how to sign in", async () => {
  const pool = await startTestPool();
  onTestFinished(async () => void (await pool.stop()));
  await waitFor("the link", () =>
    pool.up.stderr().includes("sign in  farpool login 'https://127.0.0.1:") ? true : undefined,
  );
  expect(pool.up.stderr()).not.toContain("farpool join");
});
