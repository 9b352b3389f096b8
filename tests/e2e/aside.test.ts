import { appendFileSync, copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { library, root } from "../../scripts/repository.ts";
import { nvmlTools } from "../../scripts/setup/nvml-tools.ts";
import { type Pool, example, startPool } from "./kit/pool.ts";
import { execute, type ProgramResult } from "./kit/program.ts";
import { type Service, startService } from "./kit/service.ts";

// A machine with a driver of its own (the simulated GPU stands in for it), which the loader finds behind our library.

let pool: Pool;
let service: Service;
let python: string;
beforeAll(async () => {
  python = (await nvmlTools()).python;
  pool = await startPool(1, { FARPOOL_SIMGPU_NAME_SUFFIX: " of the pool" });
  service = await startService(pool, "hold: on-demand\nidle-timeout: 500ms\n");
});
afterAll(async () => {
  await service.stop();
  await pool.stop();
});

const libraries = [dirname(library.shim), dirname(library.simgpu)];
const ofTheDriver = { FARPOOL_SIMGPU_NAME_SUFFIX: " of this machine", FARPOOL_SIMGPU_DEVICES: "1" };

function execution(
  words: readonly string[],
  more: Readonly<Record<string, string>>,
  folders: readonly string[],
): Promise<ProgramResult> {
  const environment = {
    ...{ LD_LIBRARY_PATH: folders.join(":"), FARPOOL_LOG: "stderr" },
    FARPOOL_SIMGPU_STATE: `${pool.folder}/local-simgpu`,
    ...ofTheDriver,
    ...more,
  };
  return execute(words, { environment });
}

function run(
  name: string,
  more: Readonly<Record<string, string>> = {},
  folders: readonly string[] = libraries,
): Promise<ProgramResult> {
  return execution([example(name)], more, folders);
}

const report = ["python3", join(root, "tests", "programs", "nvml-report.py")];

/** What nvidia-ml-py says of the GPUs. */
function askNvml(
  more: Readonly<Record<string, string>> = {},
  folders: readonly string[] = libraries,
): Promise<ProgramResult> {
  return execution(report, { PYTHONPATH: python, ...more }, folders);
}

/** Of each GPU, what both libraries have to say the same of. */
function identities({ stdout }: ProgramResult): readonly unknown[] {
  const gpus = stdout.split("\n").filter((line) => line.includes('"uuid"'));
  return gpus.map((line) => {
    const { name, uuid, pci, memory } = JSON.parse(line) as Readonly<Record<string, unknown>>;
    return { name, uuid, pci, memory };
  });
}

/** A folder with both libraries, each made by `make` from ours. */
function folderOf(name: string, make: (path: string, ours: string) => void): string {
  const folder = join(pool.folder, name);
  mkdirSync(folder);
  for (const ours of [library.shim, library.shimNvml]) make(join(folder, basename(ours)), ours);
  return folder;
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

  it("a copy of our library is no driver, and neither is one of another release", async () => {
    const same = folderOf("same", (path, ours) => copyFileSync(ours, path));
    const other = folderOf("other", (path, ours) => {
      copyFileSync(ours, path);
      appendFileSync(path, "another release");
    });

    for (const folders of [[], [same], [other], [same, other]]) {
      const all = [dirname(library.shim), ...folders];
      for (const result of [await run("device-query", {}, all), await askNvml({}, all)]) {
        expect(result.status).not.toBe(0);
        expect(result.stderr).toContain("there is no client service");
      }
    }
  });

  it("a library that cannot be loaded is passed over, as by the loader", async () => {
    const broken = folderOf("broken", (path) => writeFileSync(path, "of another architecture"));
    const [shim = "", driver = ""] = libraries;

    const results = [
      await run("device-query", {}, [shim, broken, driver]),
      await askNvml({}, [shim, broken, driver]),
    ];

    for (const result of results) {
      expect(result).toMatchObject({ status: 0, stderr: "" });
      expect(result.stdout).toContain("of this machine");
    }
    const alone = await run("device-query", { FARPOOL: "local" }, [shim, broken]);
    expect(alone.stderr).toContain(`the machine's own driver, ${broken}/libcuda.so.1, cannot be loaded (`);
  });

  it("NVML tells of the machine's own GPU, and agrees with CUDA", async () => {
    const [cuda, nvml] = [await run("gpu-identity"), await askNvml()];

    expect(nvml).toMatchObject({ status: 0, stderr: "" });
    expect(nvml.stdout).toContain("of this machine");
    expect(identities(nvml)).toHaveLength(1);
    expect(identities(nvml)).toEqual(identities(cuda));
  });

  it("NVML tells of none when the pool's are asked for", async () => {
    const result = await askNvml({ FARPOOL: "pool" });
    expect(result.status).not.toBe(0);
    expect(result.stderr).toContain("there is no client service");
  });

  it("NVML says of what an older driver lacks that it is not found", async () => {
    const folder = join(pool.folder, "older");
    mkdirSync(folder);
    const source = join(folder, "older.c");
    writeFileSync(source, "int nvmlInit_v2(void) { return 0; }\n");
    const older = join(folder, "libnvidia-ml.so.1");
    const words = ["cc", "-shared", "-Wl,-soname,libnvidia-ml.so.1", "-o", older, source];
    expect(await execute(words)).toMatchObject({ status: 0 });
    const script =
      "import ctypes; nvml = ctypes.CDLL('libnvidia-ml.so.1'); nvml.nvmlErrorString.restype = ctypes.c_char_p\n" +
      "count = nvml.nvmlDeviceGetCount_v2\n" +
      "print(nvml.nvmlInit_v2(), count(None), nvml.nvmlDeviceClearCpuAffinity(None), nvml.nvmlErrorString(0))";

    const result = await execution(["python3", "-c", script], {}, [dirname(library.shimNvml), folder]);

    expect(result).toMatchObject({ status: 0, stdout: "0 13 13 b'Success'\n" });
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

  it("NVML tells of the GPU that CUDA's programs get, and the machine's own beside it", async () => {
    const [pools, local] = await Promise.all([
      askNvml(withService()),
      askNvml({ ...withService(), FARPOOL: "local" }),
    ]);

    expect([pools.status, local.status]).toEqual([0, 0]);
    expect(pools.stdout).toContain("of the pool");
    expect(local.stdout).toContain("of this machine");
  });

  it("a session comes before everything", async () => {
    const words = ["admin", "clients", "list", "--json"];
    const { stdout } = await pool.farpool(words);
    const thumbprint = /"thumbprint": "([^"]+)"/.exec(stdout)?.[1] ?? "";
    await pool.farpool(["admin", "clients", "set", "--allow-others", "--", thumbprint]);

    const environment = {
      ...ofTheDriver,
      FARPOOL_SIMGPU_STATE: `${pool.folder}/local-simgpu`,
      FARPOOL: "local",
      PYTHONPATH: python,
    };
    for (const program of [[example("device-query")], report]) {
      const result = await pool.farpool(["run", "--", ...program], { environment });
      expect(result.stdout).toContain("of the pool");
    }
  });

  it("a service that nobody serves any more leaves the place to the driver", async () => {
    const away = { FARPOOL_BROKER: `${pool.folder}/no-such.sock` };
    for (const result of [await run("device-query", away), await askNvml(away)])
      expect(result.stdout).toContain("of this machine");
  });

  it("a word that means nothing is refused with both that do", async () => {
    const result = await run("device-query", { ...withService(), FARPOOL: "gpu" });
    expect(result.stderr).toContain("FARPOOL is `gpu`; expected `local` or `pool`");
  });
});
