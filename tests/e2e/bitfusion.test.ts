import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { bitfusion } from "../../scripts/repository.ts";
import { type Pool, example, startPool } from "./kit/pool.ts";
import { type ProgramResult, type RunningProgram, execute, start, waitFor } from "./kit/program.ts";

// The reference product's commands, and the client service that its users made of them by hand.

/** `nobody`. */
const ANOTHER_ACCOUNT = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];

let pool: Pool;
beforeAll(async () => {
  pool = await startPool(2, { FARPOOL_SIMGPU_MEMORY: "2GiB" });
});
afterEach(() => pool.expectNothingHeld());
afterAll(() => pool.stop());

const environment = (): Record<string, string> => ({ ...pool.environment, HOME: pool.folder });
const call = (...words: readonly string[]): Promise<ProgramResult> =>
  execute([bitfusion, ...words], { environment: environment() });

it("run takes GPUs, names them in a file, and gives them back", async () => {
  const script = `cat "$BF_ADAPTOR_CONFIG"; echo "$BF_ADAPTOR_CONFIG" >&2; '${example("vector-add")}'`;
  const result = await call("run", "-n", "1", "-p", "0.5", "--", "sh", "-c", script);
  expect(result).toMatchObject({ status: 0, stdout: expect.stringMatching(/PASSED\n$/) });
  const named = JSON.parse(result.stdout.slice(0, result.stdout.indexOf("}") + 1));
  expect(named).toEqual({
    session: expect.stringMatching(/^s-\w{8}$/),
    gpus: [expect.stringMatching(/^GPU-/)],
  });
  const file = result.stderr.trim();
  expect(file).toMatch(/\/bitfusion\d{9}$/);
  expect(existsSync(file)).toBe(false);
});

it.each([
  [["-m", "512"], 512],
  [["-p", "0.25"], 512],
  [["--num_gpus", "1", "--filter", "device.phy-memory>=2048"], 2048],
  [["--server_list", "127.0.0.1:56001", "-m", "100"], 100],
])("run %j shows the program %i MiB", async (words, mebibytes) => {
  const result = await call("run", ...words, "--", example("device-query"));
  expect(result).toMatchObject({ status: 0, stderr: "" });
  expect(result.stdout).toContain(`memory              ${mebibytes} MiB\n`);
});

it("what it cannot do is refused by name, and a wrong word leads to its own help", async () => {
  expect(await call("run", "--server_list", "10.0.0.1:56001;10.0.0.2:56001", "--", "true")).toMatchObject({
    status: 69,
    stderr: expect.stringContaining("--server_list with 2 servers is not supported"),
  });
  expect(await call("run", "--filter", "device.colour=red", "--", "true")).toMatchObject({
    status: 64,
    stderr: expect.stringContaining("there is no 'device.colour' to filter by"),
  });
  expect(await call("release_gpus", "--wrong")).toMatchObject({
    status: 64,
    stderr: expect.stringContaining("bitfusion release_gpus --help"),
  });
});

it("request_gpus, client and release_gpus are one reservation", async () => {
  const asked = await call("request_gpus", "-n", "2");
  expect(asked).toMatchObject({ status: 0, stderr: "" });
  const file = asked.stdout.trim();
  expect(await call("client", "--", example("two-gpu-relay"))).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/PASSED\n$/),
  });
  expect(await call("client", "-f", file, example("vector-add"))).toMatchObject({ status: 0 });
  expect(await call("release_gpus")).toMatchObject({ status: 0 });
  expect(existsSync(file)).toBe(false);
  expect(await call("client", "--", "true")).toMatchObject({
    status: 64,
    stderr: expect.stringContaining("bitfusion request_gpus -n 1"),
  });
});

it("the other commands show the pool as farpool's do", async () => {
  for (const [old, ours] of [
    ["list_gpus", "gpus"],
    ["smi", "smi"],
    ["stats", "servers"],
  ] as const) {
    const [theirs, farpools] = [await call(old), await pool.farpool([ours])];
    expect([old, theirs.status]).toEqual([old, 0]);
    expect([old, theirs.stdout.split("\n")[0]]).toEqual([old, farpools.stdout.split("\n")[0]]);
  }
  expect((await call("version")).stdout).toMatch(/^farpool \d+\.\d+\.\d+/);
});

/** The article's capture script; its list of variables is ours. */
function captureScript(profile: string): string {
  return `BITFUSIONTARGFILE=${profile}
/bin/chmod 644 $BF_ADAPTOR_CONFIG
/bin/echo "export LD_LIBRARY_PATH=\\"$LD_LIBRARY_PATH:\\$LD_LIBRARY_PATH\\"" > $BITFUSIONTARGFILE
/bin/echo "export FARPOOL_SESSION=$FARPOOL_SESSION" >> $BITFUSIONTARGFILE
/bin/echo "export BF_ADAPTOR_CONFIG=$BF_ADAPTOR_CONFIG" >> $BITFUSIONTARGFILE
/bin/sleep infinity
`;
}

/** As systemd starts the article's unit. */
async function startService(
  name: string,
): Promise<{ readonly unit: RunningProgram; readonly profile: string }> {
  const [script, profile] = [join(pool.folder, `${name}-env`), join(pool.folder, `${name}.sh`)];
  writeFileSync(script, captureScript(profile));
  const unit = start([bitfusion, "run", "-n", "1", "--", "bash", script], { environment: environment() });
  await waitFor("the profile script", () =>
    existsSync(profile) && readFileSync(profile, "utf8").includes("BF_ADAPTOR_CONFIG=") ? true : undefined,
  );
  return { unit, profile };
}

/** A shell that has nothing of ours but the profile script. */
const login = (profile: string, line: string, as: readonly string[] = []): Promise<ProgramResult> =>
  execute([...as, "env", "-i", "PATH=/usr/bin:/bin", "bash", "-c", `. ${profile}; ${line}`], {});

it("the article's service gives every login the GPU, in turn and at once, and other users while the file is theirs to read", async () => {
  const { unit, profile } = await startService("client");
  const program = example("vector-add");
  const passed = { status: 0, stdout: expect.stringMatching(/PASSED\n$/) };
  expect(await login(profile, program)).toMatchObject(passed);
  expect(await Promise.all([1, 2, 3].map(() => login(profile, program)))).toEqual(
    Array.from({ length: 3 }, () => expect.objectContaining(passed)),
  );
  expect(await login(profile, program, ANOTHER_ACCOUNT)).toMatchObject(passed);
  const closed = await login(profile, "chmod 600 $BF_ADAPTOR_CONFIG");
  expect(closed.status).toBe(0);
  const refused = await login(profile, `FARPOOL_LOG=stderr ${program}`, ANOTHER_ACCOUNT);
  expect(refused.status).not.toBe(0);
  expect(refused.stderr).toContain("only this user's processes and root's may use it");
  expect(await login(profile, program)).toMatchObject(passed);
  unit.child.kill("SIGTERM");
  await unit.ended;
});

it(
  "20 restarts of the article's unit leave no process, no GPU and no file",
  { timeout: 240_000 },
  async () => {
    for (let round = 0; round < 20; round += 1) {
      const { unit, profile } = await startService("again");
      const file = /BF_ADAPTOR_CONFIG=(\S+)/.exec(readFileSync(profile, "utf8"))?.[1] ?? "";
      expect(existsSync(file)).toBe(true);
      // KillMode=process: systemd tells the main process only.
      unit.child.kill("SIGTERM");
      await unit.ended;
      writeFileSync(profile, "");
      expect(existsSync(file)).toBe(false);
      const sleeps = await execute(["pgrep", "-f", join(pool.folder, "again-env")], {});
      expect(sleeps.stdout).toBe("");
    }
  },
);
