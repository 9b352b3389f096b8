import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { processesMentioning } from "../e2e/kit/processes.ts";
import { waitFor } from "../e2e/kit/program.ts";
import { type Client, program, startClient, VECTOR_ADD } from "./kit/client.ts";
import type { Guest } from "./kit/guest.ts";

// What happens to a shell that is open, and to a program that runs in it, when something on the way is away for a while.

/** Computes for more than half a minute. */
const LONG = `${program("busy")} 900 64 20 > /tmp/long 2>&1; echo ended with $? >> /tmp/long`;

let client: Client;
let guest: Guest;
beforeAll(async () => {
  client = await startClient();
  ({ guest } = client);
  const wish = ["-n", "1", "--hold", "on-demand", "--idle-timeout", "2s"];
  await guest.output("farpool", "service", "install", "--system", ...wish);
  // One shell for all tests: nobody logs in again.
  await guest.login("dev1", "tmux new -d -s desk");
}, 600_000);
afterAll(() => client.stop());

async function type(line: string): Promise<void> {
  expect(await guest.login("dev1", `tmux send -t desk '${line}' Enter`)).toMatchObject({ status: 0 });
}

const contentOf = async (file: string): Promise<string> => (await guest.run(["cat", file])).stdout;

async function startLong(): Promise<void> {
  await guest.run(["rm", "-f", "/tmp/long"]);
  await type(LONG);
  await waitFor("its first round", async () =>
    (await contentOf("/tmp/long")).includes("round 1\n") ? true : undefined,
  );
}

/** What the long program has printed, at its end. */
function endOfLong(): Promise<string> {
  return waitFor(
    "the end of the long program",
    async () => {
      const now = await contentOf("/tmp/long");
      return now.includes("ended with") ? now : undefined;
    },
    120_000,
  );
}

const GOOD = /PASSED\nended with 0\n$/;

/** What the same shell's next program prints, once there is a GPU for it. */
async function nextOfShell(patienceMs = 60_000): Promise<string> {
  await guest.run(["rm", "-f", "/tmp/short"]);
  await type(`until ${VECTOR_ADD} > /tmp/short 2>&1; do sleep 0.2; done; echo done >> /tmp/short`);
  return waitFor(
    "the shell's next program",
    async () => {
      const text = await contentOf("/tmp/short");
      return text.endsWith("done\n") ? text : undefined;
    },
    patienceMs,
  ).catch(async (cause: unknown) => {
    const said = await contentOf("/tmp/short");
    const [status, logs] = await Promise.all(
      ["status", "logs"].map((verb) => client.farpool("service", verb, "--system")),
    );
    throw new Error(`the program says: ${said}\n${status?.stdout}${logs?.stdout.slice(-3_000)}`, { cause });
  });
}

it.each([
  ["a pulled cable", () => guest.cable("down"), () => guest.cable("up")],
  ["a network that swallows everything", () => guest.blackHole("begins"), () => guest.blackHole("ends")],
  ["a machine that sleeps", () => guest.suspend("FROZEN"), () => guest.suspend("THAWED")],
])("%s costs the program a pause", async (_, begin, end) => {
  await startLong();
  begin();
  await sleep(15_000);
  end();
  expect(await endOfLong()).toMatch(GOOD);
  expect(await nextOfShell()).toContain("PASSED\n");
});

it.each(["service", "agent", "acceptor", "manager"])("a restart of the %s is not noticed", async (role) => {
  await startLong();
  if (role === "service") {
    await guest.output("systemctl", "restart", "farpool-client.service");
  } else {
    const pattern = role === "acceptor" ? /farpool-acceptor/ : new RegExp(`farpool\\.mjs internal ${role} `);
    const victim = processesMentioning(client.pool.folder).find(({ command }) => pattern.test(command));
    if (victim === undefined) throw new Error(`the pool has no ${role}`);
    process.kill(victim.pid, "SIGKILL");
  }
  expect(await endOfLong()).toMatch(GOOD);
  expect(await nextOfShell()).toContain("PASSED\n");
});

it("a boot with the pool unreachable is not delayed, and the GPUs are there when the pool is", async () => {
  guest.cable("down");
  const started = performance.now();
  await guest.reboot();
  const bootS = (performance.now() - started) / 1_000;
  const state = await guest.run([
    "systemctl",
    "is-active",
    "farpool-client.service",
    "farpool-client.socket",
  ]);
  expect(state.stdout).toBe("active\nactive\n");
  console.log(`booted without the pool in ${bootS.toFixed(1)} s`);
  // A shell of this boot, and a program that waits in it.
  await guest.login("dev1", "tmux new -d -s desk");
  guest.cable("up");
  expect(await nextOfShell()).toContain("PASSED\n");
});

it("a cable that was away for longer than the lease: the same shell works again", async () => {
  expect(await nextOfShell()).toContain("PASSED\n");
  guest.cable("down");
  await sleep(130_000);
  guest.cable("up");
  expect(await nextOfShell()).toContain("PASSED\n");
  await client.untilState("idle");
  await client.pool.expectNothingHeld();
});
