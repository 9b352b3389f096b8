import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { waitFor, type ProgramResult } from "../e2e/kit/program.ts";
import { nvmlTools } from "../../scripts/setup/nvml-tools.ts";
import { type Client, program, startClient, VECTOR_ADD } from "./kit/client.ts";
import type { Guest } from "./kit/guest.ts";

// Several programs of several users on the machine's one session: what the reference product could not promise.

const GIB = 2 ** 30;
const UNIT = "farpool-client.service";
const FOUR = [
  ["dev1", `${program("matrix-multiply")} 256`],
  ["dev2", program("reduction")],
  ["dev1", program("atomics")],
  ["dev2", program("tensor-cores")],
] as const;
/** Attaches to another user's process, and opens what it may have shared, as far as the kernel lets it. */
const INTRUDE = `
import os, sys
pid = int(sys.argv[1])
for what, attempt in (
    ("signal", lambda: os.kill(pid, 15)),
    ("memory", lambda: open(f"/proc/{pid}/mem", "rb").read(1)),
    ("environment", lambda: open(f"/proc/{pid}/environ", "rb").read(1)),
    ("descriptors", lambda: os.listdir(f"/proc/{pid}/fd")),
):
    try:
        attempt()
        print(what, "OPEN")
    except PermissionError:
        print(what, "refused")
`;

let client: Client;
let guest: Guest;
beforeAll(async () => {
  client = await startClient();
  ({ guest } = client);
  const wish = ["-n", "1", "-m", "4GiB", "--hold", "on-demand", "--idle-timeout", "1s"];
  await guest.output("farpool", "service", "install", "--system", ...wish);
  await guest.write("/srv/intrude.py", INTRUDE);
  await guest.write("/srv/pynvml.py", readFileSync(join((await nvmlTools()).python, "pynvml.py"), "utf8"));
}, 600_000);
afterAll(() => client.stop());

const started = (user: string, file: string): Promise<true> =>
  waitFor(`the first round of ${user}'s program`, async () =>
    (await guest.run(["cat", file])).stdout.includes("round 1\n") ? true : undefined,
  );

/** Busy until its rounds are done, as another user's neighbour. */
async function startNeighbour(rounds: number): Promise<{ readonly ended: Promise<ProgramResult> }> {
  await guest.run(["rm", "-f", "/tmp/neighbour"]);
  const ended = client.start("dev2", `${program("busy")} ${rounds} 256 20 > /tmp/neighbour 2>&1`);
  await started("dev2", "/tmp/neighbour");
  return { ended };
}

it("four programs of two users at once give the results that each gives alone", async () => {
  const alone: string[] = [];
  for (const [user, line] of FOUR) alone.push((await guest.login(user, line)).stdout);
  expect(alone.every((text) => text.endsWith("PASSED\n"))).toBe(true);
  const together = await Promise.all(FOUR.map(([user, line]) => guest.login(user, line)));
  expect(together.map(({ status, stdout }) => [status, stdout])).toEqual(alone.map((text) => [0, text]));
});

it("an allocation beyond the session's memory fails in its own program only", async () => {
  const neighbour = await startNeighbour(150);
  const { status, stdout } = await guest.login("dev1", `${program("allocate")} 256 100`);
  expect(status).toBe(0);
  expect(stdout).toContain("ended by cudaErrorMemoryAllocation");
  const allocated = Number(/allocated (\d+)/.exec(stdout)?.[1]);
  expect(allocated).toBeGreaterThan(3 * GIB);
  expect(allocated).toBeLessThan(4 * GIB);
  expect(await neighbour.ended).toMatchObject({ status: 0 });
});

it("an illegal address and a kill of one program leave the other alone", async () => {
  const neighbour = await startNeighbour(250);
  const broken = await guest.login("dev1", program("launch-error"));
  expect(broken.stdout).toContain("synchronize: cudaErrorIllegalAddress\n");
  const killed = client.start("dev1", `${program("busy")} 100000 256 20 > /tmp/killed 2>&1`);
  await started("dev1", "/tmp/killed");
  await guest.output("pkill", "-KILL", "-u", "dev1", "busy");
  expect((await killed).status).not.toBe(0);
  expect(await guest.login("dev1", VECTOR_ADD)).toMatchObject({ status: 0 });
  expect(await neighbour.ended).toMatchObject({ status: 0 });
});

it("nobody signals or reads another user's program", async () => {
  const neighbour = await startNeighbour(100);
  const pid = (await guest.output("pgrep", "-u", "dev2", "busy")).trim();
  const { stdout } = await guest.login("dev1", `python3 /srv/intrude.py ${pid}`);
  expect(stdout).toBe("signal refused\nmemory refused\nenvironment refused\ndescriptors refused\n");
  expect(await neighbour.ended).toMatchObject({ status: 0 });
});

it("nvidia-ml-py from PyPI and our nvidia-smi agree with CUDA on the slice, and 200 looks take nothing", async () => {
  await client.untilState("idle");
  const cuda = JSON.parse((await guest.login("dev1", program("gpu-identity"))).stdout) as {
    readonly name: string;
    readonly uuid: string;
    readonly pci: string;
    readonly memory: number;
  };
  await client.untilState("idle");
  const nvml = await guest.login("dev2", "PYTHONPATH=/srv python3 /opt/farpool/programs/nvml-report.py");
  const [first] = nvml.stdout.split("\n");
  expect(JSON.parse(first ?? "")).toMatchObject({
    ...{ name: cuda.name, uuid: cuda.uuid, pci: cuda.pci, memory: cuda.memory },
  });
  expect(cuda.memory).toBe(4 * GIB);
  const query = "--query-gpu=name,uuid,memory.total --format=csv,noheader,nounits";
  const smi = await guest.login("dev1", `nvidia-smi ${query}`);
  expect(smi.stdout).toBe(`${cuda.name}, ${cuda.uuid}, ${cuda.memory / 2 ** 20}\n`);
  const before = await allSessions();
  const looks = await guest.login(
    "dev1",
    `for each in $(seq 100); do nvidia-smi -L > /dev/null || echo bad; done; PYTHONPATH=/srv python3 /opt/farpool/programs/nvml-report.py probe 100`,
  );
  expect(looks).toMatchObject({ status: 0 });
  expect(looks.stdout).not.toContain("bad");
  expect(await allSessions()).toBe(before);
});

it("who leaves the GPU idle loses it with --idle-action end, and is told so", async () => {
  const wish = [
    "-n",
    "1",
    "-m",
    "4GiB",
    "--hold",
    "on-demand",
    "--idle-timeout",
    "5s",
    "--idle-action",
    "end",
  ];
  await guest.output("farpool", "service", "install", "--system", ...wish);
  // Computes, waits for longer than the timeout, and computes again.
  const { status, stderr } = await guest.login("dev1", `FARPOOL_LOG=stderr ${program("busy")} 2 64 15000`);
  expect(status).not.toBe(0);
  expect(stderr).toContain("cudaErrorDevicesUnavailable");
  expect(stderr).toMatch(/idle for \S+ s: no kernel, copy or call of its programs/);
  expect(await guest.login("dev1", VECTOR_ADD)).toMatchObject({ status: 0 });
  expect(await guest.output("systemctl", "is-active", UNIT)).toBe("active\n");
});

/** How many sessions there have been. */
async function allSessions(): Promise<number> {
  return (await client.pool.client.call("listSessions", { query: { ended: 1_000 } })).sessions.length;
}
