import { createInterface } from "node:readline/promises";
import { FarpoolError } from "@farpool/contract";
import type { ServiceScope } from "@farpool/layout";
import { say } from "../core/output.ts";
import { localGpuModes } from "./configuration.ts";

export type LocalGpu = (typeof localGpuModes)[number];

const MOST_QUESTIONS = 3;
const DEFAULT: LocalGpu = "first";

const MEANINGS: Readonly<Record<LocalGpu, string>> = {
  first: "programs use this machine's own GPUs, and the pool's with FARPOOL=pool",
  "pool-first":
    "programs use the pool's GPUs, and this machine's own with FARPOOL=local or where the pool's are not for them",
  off: "programs use the pool's GPUs, and this machine's own with FARPOOL=local alone",
};

interface Situation {
  readonly scope: ServiceScope;
  /** What `--local-gpu` says. */
  readonly wanted: LocalGpu | undefined;
  /** This machine's own `libcuda.so.1`. */
  readonly driver: string | undefined;
  /** Undefined: there is no terminal. */
  readonly ask: ((question: string) => Promise<string>) | undefined;
}

/** What the service's file is to say about the machine's own GPUs; undefined where it need say nothing. */
export async function chooseLocalGpu({
  scope,
  wanted,
  driver,
  ask,
}: Situation): Promise<LocalGpu | undefined> {
  if (scope === "user") return noneForOnePerson(wanted, driver);
  if (wanted !== undefined || driver === undefined) return wanted;
  if (ask === undefined) {
    say(`note: this machine has a driver of its own, ${driver}: ${MEANINGS[DEFAULT]}`);
    say(
      `hint: that is '--local-gpu ${DEFAULT}'; '--local-gpu ${localGpuModes.slice(1).join("' or '")}' changes it`,
    );
    return DEFAULT;
  }
  say(`this machine has a driver of its own, ${driver}`);
  for (const mode of localGpuModes) say(`  ${mode.padEnd(10)}  ${MEANINGS[mode]}`);
  for (let asked = 0; asked < MOST_QUESTIONS; asked += 1) {
    const answer = (await ask(`which one? [${DEFAULT}] `)).trim();
    if (answer === "") return DEFAULT;
    const mode = localGpuModes.find((each) => each === answer);
    if (mode !== undefined) return mode;
    say(`'${answer.slice(0, 40)}' is none of ${localGpuModes.join(", ")}`);
  }
  throw notSaid();
}

/** Programs read one file only, the machine's: what one person wants her shell says. */
function noneForOnePerson(wanted: LocalGpu | undefined, driver: string | undefined): undefined {
  if (wanted !== undefined)
    throw new FarpoolError("FARPOOL_USAGE", `--local-gpu ${wanted} is for the service of all users`, {
      hint: "with --user leave it out: your programs use the pool's GPUs, and with FARPOOL=local the machine's own",
    });
  if (driver !== undefined)
    say(`note: this machine has a driver of its own, ${driver}: your programs use it with FARPOOL=local`);
  return undefined;
}

/** Asks on the terminal; undefined where there is none. */
export function terminalQuestion(): Situation["ask"] {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return undefined;
  return async (question) => {
    const lines = createInterface({ input: process.stdin, output: process.stderr });
    const closed = new Promise<never>((_resolve, reject) => lines.once("close", () => reject(notSaid())));
    closed.catch(() => undefined);
    try {
      return await Promise.race([lines.question(question), closed]);
    } finally {
      lines.close();
    }
  };
}

function notSaid(): FarpoolError {
  return new FarpoolError(
    "FARPOOL_USAGE",
    "it was not said which GPUs programs are to use; nothing was changed",
    {
      hint: `--local-gpu ${localGpuModes.join("|")} says it`,
    },
  );
}
