import { existsSync, mkdtempSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Pool, example, runDirectly, startPool } from "./kit/pool.ts";
import { programs } from "./kit/example-programs.ts";
import { tcpPeers } from "./kit/processes.ts";
import { type ProgramResult, waitFor } from "./kit/program.ts";

/** Ways to a GPU, by what the program's environment says. All are gone at once: a long way is mostly waiting. */
const links = {
  "over unix": { FARPOOL_TRANSPORT: "unix" },
  "over tcp": { FARPOOL_TRANSPORT: "tcp" },
  "over unix, 1 ms away": { FARPOOL_TRANSPORT: "unix", FARPOOL_EMULATED_RTT: "1ms" },
  "over tcp, 1 ms away": { FARPOOL_TRANSPORT: "tcp", FARPOOL_EMULATED_RTT: "1ms" },
  "over unix, 30 ms away": { FARPOOL_TRANSPORT: "unix", FARPOOL_EMULATED_RTT: "30ms" },
  "over tcp, 30 ms away": { FARPOOL_TRANSPORT: "tcp", FARPOOL_EMULATED_RTT: "30ms" },
  "waiting for every call": { FARPOOL_STRICT: "1" },
} as const;

const longestProgram = "out-of-memory";

/** out-of-memory fills the GPU: a small one is sooner full. */
const simulation = { FARPOOL_SIMGPU_MEMORY: "512MiB" };

let pool: Pool;
/** What each program did, by link and program. */
const sessions = new Map<string, Promise<Outcomes>>();
beforeAll(async () => {
  pool = await startPool(2 * Object.keys(links).length, simulation);
  for (const [link, environment] of Object.entries(links)) {
    sessions.set(link, inSessions(environment));
  }
});
afterAll(async () => {
  await pool.stop();
});

interface Outcome {
  readonly status: string;
  readonly stdout: string;
  readonly stderr: string;
}

type Outcomes = ReadonlyMap<string, Outcome>;

/** The longest apart from the others. */
async function inSessions(environment: Readonly<Record<string, string>>): Promise<Outcomes> {
  const [longest, others] = [[longestProgram], programs.filter((name) => name !== longestProgram)];
  const halves = await Promise.all([inOneSession(longest, environment), inOneSession(others, environment)]);
  return new Map(halves.flatMap((half) => [...half]));
}

/** Runs programs in turn, in a session of their own. */
async function inOneSession(
  names: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<Outcomes> {
  const results = mkdtempSync(join(pool.folder, "results-"));
  const script = `for program; do
    name=$(basename "$program")
    timeout 100 "$program" > "${results}/$name.stdout" 2> "${results}/$name.stderr"
    echo $? > "${results}/$name.status"
    # Memory is free again when the worker has ended, a moment after its program; some programs count it.
    sleep 0.3
  done`;
  const words = ["run", "-n", "1", "--", "sh", "-c", script, "sh", ...names.map(example)];
  await pool.farpool(words, { environment });
  const read = (name: string, ending: string): string => {
    const path = join(results, `${name}.${ending}`);
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  };
  return new Map(
    names.map((name) => [
      name,
      { status: read(name, "status").trim(), stdout: read(name, "stdout"), stderr: read(name, "stderr") },
    ]),
  );
}

const runsAlone = new Map<string, Promise<ProgramResult>>();

function alone(name: string): Promise<ProgramResult> {
  const run = runsAlone.get(name) ?? runDirectly([example(name)], 1, simulation);
  runsAlone.set(name, run);
  return run;
}

describe.each(programs)("%s", (name) => {
  it("verifies its result on the simulated GPU alone", async () => {
    const direct = await alone(name);

    expect(direct).toMatchObject({ status: 0, stderr: "" });
    expect(direct.stdout).toMatch(/PASSED\n$/);
  });

  it.each(Object.keys(links))("gives the same output through the pool, %s", async (link) => {
    const pooled = (await sessions.get(link))?.get(name);
    const direct = await alone(name);

    expect(pooled).toEqual({ status: "0", stdout: direct.stdout, stderr: "" });
  });
});

describe("FARPOOL_TRANSPORT", () => {
  it.each([
    ["tcp", true],
    ["unix", false],
  ])("%s: TCP is used: %s", async (transport, expected) => {
    const run = pool.start(["run", "-n", "1", "--", example("busy"), "100000"], {
      environment: { FARPOOL_TRANSPORT: transport },
    });
    await run.until("round 2\n");
    const session = await pool.sessionOf(run);
    const client = await waitFor("the client's process id", async () => {
      const shown = await pool.client.call("showSession", { params: { sessionId: session.id } });
      return shown.processes[0]?.clientPid ?? undefined;
    });
    const usesTcp = tcpPeers(client).includes(pool.dataPort);
    process.kill(client, "SIGKILL");
    await run.ended;

    expect(usesTcp).toBe(expected);
    await pool.expectNothingHeld();
  });
});

describe("device-query", () => {
  it("sees the GPU of the session, whole", async () => {
    const direct = await runDirectly([example("device-query")], 1, simulation);
    const pooled = await pool.farpool(["run", "-n", "1", "--", example("device-query")]);

    // Which of the pool's GPUs it is depends on who had which before.
    const address = /(PCI address +)(\S+)/;
    const { gpus } = await pool.client.call("listGpus", {});
    expect(gpus.map(({ pciBusId }) => pciBusId.toLowerCase())).toContainEqual(
      expect.stringContaining(address.exec(pooled.stdout)?.[2] ?? "no address"),
    );
    const anyAddress = (text: string): string => text.replace(address, "$1anywhere");
    expect(pooled.status).toBe(0);
    expect(anyAddress(pooled.stdout)).toBe(anyAddress(direct.stdout));
    expect(pooled.stdout).toContain("GPUs: 1,");
  });
});
