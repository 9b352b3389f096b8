import { afterAll, beforeAll, expect, it } from "vitest";
import { type Client, program, startClient } from "./kit/client.ts";
import type { Guest } from "./kit/guest.ts";

// A client machine with a GPU of its own: a stand-in for its driver lies where NVIDIA's would.

const DRIVER = "/usr/lib/x86_64-linux-gnu";

let client: Client;
let guest: Guest;
/** What the machine's own GPU is called. */
let own: string;
beforeAll(async () => {
  client = await startClient();
  ({ guest } = client);
  for (const name of ["libcuda.so.1", "libnvidia-ml.so.1"])
    await guest.output("cp", `/opt/farpool/dist/lib/simgpu/${name}`, DRIVER);
  await guest.output("ldconfig");
  own = await uuid();
}, 600_000);
afterAll(() => client.stop());

/** Of the GPU that CUDA has in a login. */
async function uuid(environment = ""): Promise<string> {
  const { stdout } = await guest.login("dev1", `${environment} ${program("gpu-identity")}`);
  const line = stdout.split("\n").find((each) => each.startsWith("{")) ?? "{}";
  return (JSON.parse(line) as { readonly uuid?: string }).uuid ?? `no GPU:\n${stdout}`;
}

async function install(localGpu: string): Promise<string> {
  const { status, stderr } = await client.install("--hold", "on-demand", "--local-gpu", localGpu);
  if (status !== 0) throw new Error(stderr);
  return (await guest.login("dev1", "farpool service status")).stdout;
}

it("without a word about it the machine's own GPU comes first, and install says so", async () => {
  const { status, stderr } = await client.install("--hold", "on-demand");
  expect(status).toBe(0);
  expect(stderr).toContain("--local-gpu");

  expect(own).toMatch(/^GPU-/);
  expect(await uuid()).toBe(own);
});

it("local programs and the pool's side by side, by the printed rule", async () => {
  expect(await install("first")).toMatch(/local driver → .*machine's service/);
  const [local, pooled] = await Promise.all([uuid(), uuid("FARPOOL=pool")]);
  expect(local).toBe(own);
  expect(pooled).toMatch(/^GPU-/);
  expect(pooled).not.toBe(own);

  expect(await install("pool-first")).toMatch(/machine's service → .*local driver/);
  const both = await Promise.all([uuid("FARPOOL=local"), uuid()]);
  expect(both).toEqual([own, pooled]);
  // NVML, too.
  const [near, far] = await Promise.all(
    ["FARPOOL=local", ""].map((words) => guest.login("dev1", `${words} nvidia-smi -L`)),
  );
  expect(near?.stdout).toContain(own);
  expect(far?.stdout).toContain(pooled);
});

it("a session's GPU comes before both, and after the uninstall there is the machine's own", async () => {
  await client.specify("--allow-others");
  const run = await client.farpool("run", "--", program("gpu-identity"));
  expect(run).toMatchObject({ status: 0 });
  expect(run.stdout).not.toContain(own);

  await guest.output("farpool", "service", "uninstall");
  expect(await uuid()).toBe(own);
});
