import { dirname } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { library } from "../../scripts/repository.ts";
import { type Pool, example, startPool } from "./kit/pool.ts";
import { execute, type ProgramResult } from "./kit/program.ts";
import { type Service, startService } from "./kit/service.ts";

// A machine with a driver of its own (the simulated GPU stands in for it), which the loader finds behind our library.

let pool: Pool;
let service: Service;
beforeAll(async () => {
  pool = await startPool(1, { FARPOOL_SIMGPU_NAME_SUFFIX: " of the pool" });
  service = await startService(pool, "hold: on-demand\nidle-timeout: 500ms\n");
});
afterAll(async () => {
  await service.stop();
  await pool.stop();
});

const libraries = [dirname(library.shim), dirname(library.simgpu)];
const ofTheDriver = { FARPOOL_SIMGPU_NAME_SUFFIX: " of this machine", FARPOOL_SIMGPU_DEVICES: "1" };

function run(
  name: string,
  more: Readonly<Record<string, string>> = {},
  folders: readonly string[] = libraries,
): Promise<ProgramResult> {
  const environment = {
    ...{ LD_LIBRARY_PATH: folders.join(":"), FARPOOL_LOG: "stderr" },
    FARPOOL_SIMGPU_STATE: `${pool.folder}/local-simgpu`,
    ...ofTheDriver,
    ...more,
  };
  return execute([example(name)], { environment });
}

const withService = (): Readonly<Record<string, string>> => ({
  FARPOOL_BROKER: service.environment["FARPOOL_BROKER"] ?? "",
});

describe("without a service", () => {
  it("programs of both runtimes use the machine's own GPU, as if our library were not there", async () => {
    for (const name of ["vector-add", "vector-add-shared", "load-ptx", "matrix-multiply", "graph-capture"])
      expect({ name, ...(await run(name)) }).toMatchObject({ name, status: 0, stderr: "" });
    expect((await run("device-query")).stdout).toContain("of this machine");
  });

  it("FARPOOL=pool asks for the pool's and gets none", async () => {
    const result = await run("device-query", { FARPOOL: "pool" });
    expect(result.status).not.toBe(0);
    expect(result.stderr).toContain("there is no client service");
  });

  it("a copy of our library is no driver", async () => {
    const result = await run("device-query", {}, [dirname(library.shim)]);
    expect(result.status).not.toBe(0);
  });
});

describe("with a service", () => {
  it("programs use the pool's GPU, and the machine's own beside it when they ask for it", async () => {
    const [pools, local] = await Promise.all([
      run("device-query", withService()),
      run("device-query", { ...withService(), FARPOOL: "local" }),
    ]);

    expect(pools.stdout).toContain("of the pool");
    expect(local.stdout).toContain("of this machine");
    const both = await Promise.all([
      run("vector-add", withService()),
      run("vector-add", { ...withService(), FARPOOL: "local" }),
    ]);
    expect(both.map(({ status }) => status)).toEqual([0, 0]);
  });

  it("a session comes before everything", async () => {
    const words = ["admin", "clients", "list", "--json"];
    const { stdout } = await pool.farpool(words);
    const thumbprint = /"thumbprint": "([^"]+)"/.exec(stdout)?.[1] ?? "";
    await pool.farpool(["admin", "clients", "set", "--allow-others", "--", thumbprint]);

    const result = await pool.farpool(["run", "--", example("device-query")], {
      environment: { ...ofTheDriver, FARPOOL_SIMGPU_STATE: `${pool.folder}/local-simgpu`, FARPOOL: "local" },
    });

    expect(result.stdout).toContain("of the pool");
  });

  it("a service that nobody serves any more leaves the place to the driver", async () => {
    const result = await run("device-query", { FARPOOL_BROKER: `${pool.folder}/no-such.sock` });
    expect(result.stdout).toContain("of this machine");
  });

  it("a word that means nothing is refused with both that do", async () => {
    const result = await run("device-query", { ...withService(), FARPOOL: "gpu" });
    expect(result.stderr).toContain("FARPOOL is `gpu`; expected `local` or `pool`");
  });
});
