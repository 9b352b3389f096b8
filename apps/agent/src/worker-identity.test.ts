import { createPrivateKey, createPublicKey } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder, waitFor } from "@farpool/testkit";
import { pino } from "pino";
import { expect, onTestFinished, test } from "vitest";
import { testClock } from "./testing/clock.ts";
import { createWorkerIdentity } from "./worker-identity.ts";

const DAY_SECONDS = 86_400;
const DAY_MS = DAY_SECONDS * 1_000;

function start() {
  const folder = temporaryFolder();
  onTestFinished(() => folder[Symbol.dispose]());
  const file = join(folder.path, "worker-identity.pem");
  const clock = testClock();
  /** When keys were certified, in milliseconds since the start, and which. */
  const certified: Array<{ readonly atMs: number; readonly publicKey: string }> = [];
  const manager = { isAway: false };
  const identity = createWorkerIdentity({
    file,
    clock,
    logger: pino({ level: "silent" }),
    certify(publicKey) {
      if (manager.isAway) return Promise.reject(new Error("it is away"));
      certified.push({ atMs: clock.now().monotonicMs, publicKey });
      const chain = `-----BEGIN CERTIFICATE-----\nnumber ${certified.length}\n-----END CERTIFICATE-----\n`;
      return Promise.resolve({ chain, validSeconds: DAY_SECONDS });
    },
  });
  return { folder: folder.path, file, clock, certified, manager, identity };
}

test("the file holds the certificate and the key it is for, for its owner only", async () => {
  const { folder, file, certified, identity } = start();
  await identity.renew();
  const text = readFileSync(file, "utf8");
  expect(text).toMatch(
    /^-----BEGIN CERTIFICATE-----\nnumber 1\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY/,
  );
  const key = createPrivateKey(text.slice(text.indexOf("-----BEGIN PRIVATE KEY")));
  const spki = createPublicKey(key).export({ type: "spki", format: "der" }).toString("base64");
  expect(spki).toBe(certified[0]?.publicKey);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(readdirSync(folder)).toEqual(["worker-identity.pem"]);
});

test("a file with another mode is replaced, not written into", async () => {
  const { file, identity } = start();
  writeFileSync(file, "old", { mode: 0o644 });
  const before = statSync(file).ino;
  await identity.renew();
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(statSync(file).ino).not.toBe(before);
});

test("it is renewed at half-life with a new key, again and again", async () => {
  const { certified, identity, file } = start();
  await identity.renew();
  const stop = new AbortController();
  const kept = identity.keep(stop.signal);
  await waitFor("four renewals", () => (certified.length >= 5 ? true : undefined));
  stop.abort();
  await kept;
  certified.slice(1).forEach(({ atMs }, index) => {
    const age = atMs - (certified[index]?.atMs ?? 0);
    expect(age).toBeGreaterThanOrEqual(DAY_MS / 2);
    expect(age).toBeLessThan(DAY_MS / 2 + 60_000);
  });
  expect(new Set(certified.map(({ publicKey }) => publicKey)).size).toBe(certified.length);
  expect(readFileSync(file, "utf8")).toContain(`number ${certified.length}`);
});

test("a manager that is away is asked again while the old certificate goes on; a clock set back changes nothing", async () => {
  const { certified, manager, clock, identity, file } = start();
  await identity.renew();
  manager.isAway = true;
  const stop = new AbortController();
  const kept = identity.keep(stop.signal);
  clock.set(-10 * DAY_MS);
  await waitFor("most of a day", () => (clock.now().monotonicMs > 0.9 * DAY_MS ? true : undefined));
  expect(readFileSync(file, "utf8")).toContain("number 1");
  manager.isAway = false;
  await waitFor("the renewal", () => (certified.length >= 2 ? true : undefined));
  stop.abort();
  await kept;
  expect(readFileSync(file, "utf8")).toContain(`number ${certified.length}\n`);
});

test("nothing is kept before the first certificate, and a machine that slept renews when it wakes", async () => {
  const { certified, clock, identity } = start();
  const stop = new AbortController();
  const kept = identity.keep(stop.signal);
  await waitFor("two days", () => (clock.now().monotonicMs > 2 * DAY_MS ? true : undefined));
  expect(certified).toEqual([]);
  await identity.renew();
  // Only the wall clock goes on while a machine sleeps.
  clock.set(DAY_MS);
  await waitFor("the renewal", () => (certified.length >= 2 ? true : undefined));
  stop.abort();
  await kept;
});
