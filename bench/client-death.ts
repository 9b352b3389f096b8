import { spawn } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { dist, farpool } from "../scripts/repository.ts";
import { join } from "node:path";

/**
 * How long a client process is dead before its worker is, and with it all it held of the GPU. Needs a pool that is up:
 * `farpool up --simulated 1`, and then `node bench/client-death.ts [ROUNDS]`. Its own parent outlives the process, as a
 * shell would: nobody but the kernel tells of the death.
 */
const rounds = Number(process.argv[2] ?? 15);

for (const transport of ["tcp", "unix"]) {
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) times.push(await once(transport));
  times.sort((one, other) => one - other);
  const median = times[Math.floor(times.length / 2)] ?? Number.NaN;
  const last = times.at(-1) ?? Number.NaN;
  process.stdout.write(
    `${transport}: from kill -9 of the program to the end of its worker ${median.toFixed(0)} ms, at most ${last.toFixed(0)} ms (${rounds} rounds)\n`,
  );
}

async function once(transport: string): Promise<number> {
  const program = join(dist, "examples", "lifetimes");
  const words = ["run", "-n", "1", "--", "sh", "-c", `"$1" outage; sleep 2`, "sh", program];
  const run = spawn(farpool, words, {
    stdio: ["pipe", "pipe", "ignore"],
    env: { ...process.env, FARPOOL_TRANSPORT: transport },
  });
  await new Promise<void>((resolve, reject) => {
    run.once("exit", (code) => reject(new Error(`farpool run ended early with ${code}`)));
    run.stdout.once("data", () => resolve());
  });
  const client = newest((name) => name === "lifetimes");
  const worker = newest((name) => name === "farpool-worker");
  const killed = performance.now();
  process.kill(client, "SIGKILL");
  while (isRunning(worker)) await sleep(0.2);
  const elapsed = performance.now() - killed;
  run.removeAllListeners("exit");
  await new Promise((resolve) => run.once("exit", resolve));
  return elapsed;
}

/** The process that was started last among those with such a name. */
function newest(isMeant: (name: string) => boolean): number {
  const found = readdirSync("/proc").filter((pid) => /^\d+$/.test(pid) && isMeant(nameOf(pid)));
  const last = found.map(Number).toSorted((one, other) => startOf(other) - startOf(one))[0];
  if (last === undefined) throw new Error("there is no such process");
  return last;
}

function nameOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trim();
  } catch {
    return "";
  }
}

/** State and the fields behind it, of `/proc/PID/stat`. */
function statOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
  } catch {
    return [];
  }
}

function startOf(pid: number): number {
  return Number(statOf(pid)[19] ?? 0);
}

function isRunning(pid: number): boolean {
  const [state] = statOf(pid);
  return state !== undefined && state !== "Z" && state !== "X";
}
