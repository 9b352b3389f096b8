import { setTimeout as sleep } from "node:timers/promises";
import type { Machine } from "../machine.ts";
import { processTree, processesMentioning } from "../processes.ts";
import type { Load } from "./load.ts";
import type { Random } from "./random.ts";
import { workersOf } from "./servers.ts";

type Victim = "manager" | "agent" | "acceptor" | "worker" | "run" | "program";

export interface Killer {
  readonly kills: Readonly<Record<Victim, number>>;
  stop(): Promise<void>;
}

export interface KillerWish {
  /** Those of `farpool up`: a manager, an agent and an acceptor each. */
  readonly heads: readonly Machine[];
  /** Those of `farpool server`. */
  readonly servers: readonly Machine[];
  readonly load: Pick<Load, "jobs" | "hurtSessions">;
  readonly random: Random;
  readonly everyMs: number;
}

/** Kills somebody at random, again and again: -9, so nobody is warned. Who supervises a part starts it again. */
export function startKiller({ heads, servers, load, random, everyMs }: KillerWish): Killer {
  const kills: Record<Victim, number> = { manager: 0, agent: 0, acceptor: 0, worker: 0, run: 0, program: 0 };
  const stopping = new AbortController();

  function strike(kind: Victim): boolean {
    switch (kind) {
      case "manager":
        return kill(partOf(random.pick(heads), /farpool\.mjs internal manager /));
      case "agent":
        return kill(partOf(random.pick([...heads, ...servers]), /farpool\.mjs internal agent /));
      case "acceptor":
        return kill(partOf(random.pick([...heads, ...servers]), /farpool-acceptor --control/));
      case "worker":
        return strikeWorker();
      case "run":
      case "program":
        return strikeClient(kind);
    }
  }

  function strikeWorker(): boolean {
    const all = [...heads, ...servers].flatMap(workersOf);
    if (all.length === 0) return false;
    const { pid, sessionId } = random.pick(all);
    load.hurtSessions.add(sessionId);
    return kill(pid);
  }

  function strikeClient(kind: "run" | "program"): boolean {
    const running = [...load.jobs].filter(
      ({ run }) => run.child.exitCode === null && run.child.signalCode === null,
    );
    if (running.length === 0) return false;
    const job = random.pick(running);
    if (kind === "run") {
      job.hurt = "its 'farpool run' was killed";
      return kill(job.run.pid);
    }
    const [program] = processTree(job.run.pid).filter(
      ({ pid, command }) => pid !== job.run.pid && command.includes("/examples/"),
    );
    if (program === undefined) return false;
    job.hurt = "it was killed";
    return kill(program.pid);
  }

  const loop = (async () => {
    while (!stopping.signal.aborted) {
      await sleep(2 * everyMs * random.next(), undefined, { signal: stopping.signal }).catch(() => undefined);
      if (stopping.signal.aborted) return;
      // Half of them are the pool's own parts, by how many there are of each.
      const kind: Victim = random.chance(0.5)
        ? random.pick([
            "manager",
            "manager",
            "agent",
            "agent",
            "agent",
            "agent",
            "acceptor",
            "acceptor",
            "acceptor",
            "acceptor",
          ])
        : random.pick(["worker", "run", "program"]);
      if (strike(kind)) kills[kind] += 1;
    }
  })();
  return {
    kills,
    async stop() {
      stopping.abort();
      await loop;
    },
  };
}

function partOf({ folder }: Machine, pattern: RegExp): number | undefined {
  return processesMentioning(folder).find(({ command }) => pattern.test(command) && command.includes(folder))
    ?.pid;
}

function kill(pid: number | undefined): boolean {
  if (pid === undefined) return false;
  try {
    process.kill(pid, "SIGKILL");
    return true;
  } catch {
    // It was quicker.
    return false;
  }
}
