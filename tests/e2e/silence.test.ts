import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { example } from "./kit/pool.ts";
import { processTree } from "./kit/processes.ts";
import { type ProxiedPool, startProxiedPool } from "./kit/proxied-pool.ts";
import type { ProgramResult, RunningProgram } from "./kit/program.ts";
import { within } from "./kit/within.ts";

const GRACE_MS = 3_000;
/** Longer than the time of grace, and than a session's lease. */
const LONGER_THAN_ALL_MS = 14_000;

let proxied: ProxiedPool;
beforeAll(async () => {
  proxied = await startProxiedPool({ grace: `${GRACE_MS}ms`, gpus: 4 });
});
afterAll(async () => {
  await proxied.stop();
});

interface Outage {
  readonly run: RunningProgram;
  /** Computes once more. */
  next(): void;
  end(): Promise<ProgramResult>;
}

/** A program that computes whenever it is told to; it has done so once. */
async function startOutage(...words: readonly string[]): Promise<Outage> {
  const run = proxied.pool.start(["run", "-n", "1", "--", example("lifetimes"), "outage", ...words], {
    // Its sentences are for a person at a terminal, or for whoever asks.
    environment: { ...proxied.environment, FARPOOL_LOG: "stderr" },
    keepInput: true,
  });
  await run.until("round 1\n");
  return {
    run,
    next: () => run.child.stdin?.write("\n"),
    end: () => {
      run.child.stdin?.end();
      return within("the end of the program", run.ended);
    },
  };
}

/** Has it compute once more after the line has died, and waits for its end. */
async function askedInADeadLine(outage: Outage): Promise<ProgramResult> {
  const over = proxied.proxies[0].blackhole();
  await sleep(100);
  outage.next();
  const result = await within("the error", outage.run.ended);
  proxied.proxies[0].heal();
  await over;
  return result;
}

describe("a black hole", () => {
  it("that is longer than the time of grace is a sticky error, soon and with a reason", async () => {
    const outage = await startOutage();
    const over = proxied.proxies[0].blackhole();
    await sleep(2 * GRACE_MS + 1_000);
    // The program itself looks at how long the call takes.
    outage.next();
    const result = await within("the error", outage.run.ended);
    proxied.proxies[0].heal();
    await over;

    expect(result.stdout).toMatch(/round 1\nfailed with cudaErrorDevicesUnavailable after .*\nPASSED\n/);
    expect(result.stderr).toMatch(/no connection for \d+ s, the longest that this session waits/);
    expect(result.status).toBe(0);
    await proxied.pool.expectNothingHeld();
  });

  it("that begins under a waiting call is one, too", async () => {
    const result = await askedInADeadLine(await startOutage());

    expect(result.stdout).toMatch(/failed with cudaErrorDevicesUnavailable/);
    expect(result.stderr).toMatch(/no connection for \d+ s/);
    await proxied.pool.expectNothingHeld();
  });

  it("is an end, too, for a program that never waits and only asks whether it is over", async () => {
    const outage = await startOutage("polls");
    outage.next();
    await outage.run.until("round 2\n");
    const result = await askedInADeadLine(outage);

    expect(result.stdout).toMatch(/failed with cudaErrorDevicesUnavailable/);
    await proxied.pool.expectNothingHeld();
  });

  it("that is shorter is a pause", async () => {
    const outage = await startOutage();
    for (const [number, ms] of [200, 1_200, 500].entries()) {
      const over = proxied.proxies[0].blackhole(ms);
      outage.next();
      await over;
      await outage.run.until(`round ${number + 2}\n`);
    }

    expect(await outage.end()).toMatchObject({ status: 0, stderr: "" });
    await proxied.pool.expectNothingHeld();
  });
});

describe("Ctrl-Z", () => {
  /** All of them at once, as a terminal's SIGTSTP does; `farpool run` and its program are one process group there. */
  const signalAll = (pids: readonly number[], signal: NodeJS.Signals): void => {
    for (const pid of pids) process.kill(pid, signal);
  };

  it.each([
    ["farpool run and its program", (all: readonly number[]) => all],
    ["the program alone", (all: readonly number[]) => all.slice(1)],
  ])("of %s for longer than every timeout is survived", async (_, stopped) => {
    const outage = await startOutage();
    const pids = stopped(processTree(outage.run.pid).map(({ pid }) => pid));
    expect(pids.length).toBeGreaterThan(0);
    signalAll(pids, "SIGSTOP");
    await sleep(LONGER_THAN_ALL_MS);
    signalAll(pids, "SIGCONT");
    outage.next();
    await outage.run.until("round 2\n");

    expect(await outage.end()).toMatchObject({ status: 0, stderr: "" });
    await proxied.pool.expectNothingHeld();
  });

  it("while the connection breaks is survived, if it comes back within the time of grace", async () => {
    const outage = await startOutage();
    const pids = processTree(outage.run.pid).map(({ pid }) => pid);
    signalAll(pids, "SIGSTOP");
    proxied.proxies[0].cut("reset");
    await sleep(GRACE_MS / 3);
    signalAll(pids, "SIGCONT");
    outage.next();
    await outage.run.until("round 2\n");

    expect(await outage.end()).toMatchObject({ status: 0, stderr: "" });
    await proxied.pool.expectNothingHeld();
  });
});
