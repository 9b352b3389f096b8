import { chmodSync, cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestPool, type TestPool } from "../testing/pool.ts";

let pool: TestPool;
beforeAll(async () => {
  pool = await startTestPool();
});
afterAll(async () => {
  await pool.stop();
});

/** A machine with an id of its own, and a file as an image has it. */
function machine(name: string, id: string) {
  const idFile = join(pool.folder, `${name}.machine-id`);
  writeFileSync(idFile, `${id.repeat(32)}\n`);
  const file = join(pool.folder, `${name}.join`);
  const on = pool.on(name);
  const boot = (...words: string[]) =>
    on.farpool(["join", "--on-first-boot", file, ...words], { FARPOOL_MACHINE_ID_FILE: idFile });
  const membership = () =>
    JSON.parse(readFileSync(join(pool.folder, name, "client-membership.json"), "utf8")) as {
      name: string;
      machineId: string;
    };
  return { file, boot, membership, farpool: on.farpool };
}

async function string(): Promise<string> {
  const made = await pool.farpool(["admin", "tokens", "create", "--client", "--uses", "5"]);
  return `# for machines of this image\n${made.stdout}`;
}

test("a machine made of an image joins at its first start, under its own name, and never again", async () => {
  const first = machine("boot-1", "a");
  expect(await first.boot()).toMatchObject({
    status: 64,
    stderr: expect.stringContaining("this machine has not joined, and there is no "),
  });
  writeFileSync(first.file, await string(), { mode: 0o644 });
  chmodSync(first.file, 0o644);
  expect(await first.boot("--name", "boot-1")).toMatchObject({
    status: 77,
    stderr: expect.stringMatching(/others may read .*: it has mode 0644\nhint: .*chmod 600/),
  });
  chmodSync(first.file, 0o600);
  expect(await first.boot("--name", "boot-1")).toMatchObject({
    status: 0,
    stderr: expect.stringContaining("joined   boot-1, a client of the pool"),
  });
  expect(existsSync(first.file)).toBe(false);
  expect(await first.boot()).toMatchObject({ status: 0, stderr: "this machine has joined already\n" });
});

test("a copy of a machine that had joined drops its identity and joins as itself; without a string it says what it is", async () => {
  const original = machine("boot-2", "b");
  writeFileSync(original.file, await string(), { mode: 0o600 });
  expect(await original.boot("--name", "boot-2")).toMatchObject({ status: 0 });
  const copy = machine("boot-3", "c");
  cpSync(join(pool.folder, "boot-2"), join(pool.folder, "boot-3"), { recursive: true });
  expect(await copy.boot()).toMatchObject({
    status: 69,
    stderr: expect.stringContaining("this machine is a copy of the client 'boot-2', and there is no "),
  });
  writeFileSync(copy.file, await string(), { mode: 0o600 });
  const joined = await copy.boot("--name", "boot-3");
  expect(joined).toMatchObject({
    status: 0,
    stderr: expect.stringContaining(
      "dropped the identity of the client 'boot-2', of which this machine is a copy",
    ),
  });
  expect(copy.membership().machineId).not.toBe(original.membership().machineId);
  // Both are machines of the pool.
  for (const each of [original, copy]) expect(await each.farpool(["whoami"])).toMatchObject({ status: 0 });
});
