import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadNvmlSchema } from "../../api/generator/nvml-schema.ts";
import { farpool, library, nvidiaSmi, root } from "../../scripts/repository.ts";
import { nvmlTools } from "../../scripts/setup/nvml-tools.ts";
import { type Pool, example, runDirectly, startPool } from "./kit/pool.ts";
import { execute, type ProgramResult, waitFor } from "./kit/program.ts";

const mib = 2 ** 20;
const script = join(root, "tests", "programs", "nvml-report.py");
const identity = example("gpu-identity");

interface CudaGpu {
  readonly name: string;
  readonly uuid: string;
  readonly pci: string;
  readonly memory: number;
  readonly capability: string;
}

interface NvmlGpu extends CudaGpu {
  readonly longPci: string;
  readonly index: number;
  readonly used: number;
  readonly free: number;
  readonly agrees: boolean;
  readonly cores: number;
  readonly busy: number | string;
  readonly temperature: number | string;
  readonly power: number | string;
  readonly found: boolean;
  readonly processes: readonly { readonly pid: number; readonly used: number }[];
}

let pool: Pool;
let python: string;
beforeAll(async () => {
  python = (await nvmlTools()).python;
  pool = await startPool(3);
});
afterAll(async () => {
  await pool.stop();
});

function linesOf<T>(text: string): T[] {
  const lines = text.split("\n").filter((line) => line.startsWith("{"));
  return lines.map((line) => JSON.parse(line) as T);
}

/** nvidia-ml-py from PyPI, as it is, in a session. */
function askNvml(size: readonly string[], ...words: readonly string[]): Promise<ProgramResult> {
  return pool.farpool(["run", ...size, "--", "python3", script, ...words], {
    environment: { PYTHONPATH: python },
  });
}

async function nvmlGpus(size: readonly string[]): Promise<readonly NvmlGpu[]> {
  const result = await askNvml(size);
  expect(result).toMatchObject({ status: 0, stderr: "" });
  return linesOf<NvmlGpu>(result.stdout).filter((line) => "uuid" in line);
}

/** What a CUDA program and nvidia-ml-py say in the same session. */
async function both(
  size: readonly string[],
): Promise<{ cuda: readonly CudaGpu[]; nvml: readonly NvmlGpu[] }> {
  const line = `${identity} && python3 ${script}`;
  const result = await pool.farpool(["run", ...size, "--", "sh", "-c", line], {
    environment: { PYTHONPATH: python },
  });
  expect(result).toMatchObject({ status: 0, stderr: "" });
  const lines = linesOf<NvmlGpu>(result.stdout).filter((each) => "uuid" in each);
  return {
    cuda: lines.filter((each) => !("index" in each)),
    nvml: lines.filter((each) => "index" in each),
  };
}

describe("nvidia-ml-py in a session", () => {
  it.each([
    ["one GPU", ["-n", "1"], 1],
    ["two GPUs", ["-n", "2"], 2],
    ["a slice by memory", ["-n", "1", "-m", "1024"], 1],
    ["slices of two GPUs", ["-n", "2", "-p", "0.25"], 2],
  ] as const)("agrees with CUDA on name, UUID, PCI address and memory: %s", async (_, size, count) => {
    const { cuda, nvml } = await both(size);

    expect(cuda).toHaveLength(count);
    const identities = nvml.map(({ name, uuid, pci, memory, capability }) => ({
      name,
      uuid,
      pci,
      memory,
      capability,
    }));
    expect(identities).toEqual(cuda);
    for (const gpu of nvml) {
      expect(gpu).toMatchObject({ agrees: true, found: true, cores: 8 * 64, longPci: `0000${gpu.pci}` });
      expect(gpu.free).toBe(gpu.memory - gpu.used);
    }
    expect(nvml.map(({ index }) => index)).toEqual(cuda.map((__, index) => index));
  });

  it("says what nobody measures is not supported", async () => {
    const [gpu] = await nvmlGpus(["-n", "1"]);

    expect(gpu).toMatchObject({ temperature: "Not Supported", power: "Not Supported" });
  });

  it("takes no worker and no GPU time, however often it is asked", async () => {
    const run = pool.start(["run", "-n", "1", "--", "sh", "-c", `python3 ${script} probe 200; cat`], {
      environment: { PYTHONPATH: python },
      keepInput: true,
    });
    await run.until("1\n");
    const session = await pool.sessionOf(run);
    run.child.stdin?.end();
    expect(await run.ended).toMatchObject({ status: 0, stdout: "1\n" });

    const { sessions } = await pool.client.call("listSessions", { query: { ended: 20 } });
    const ended = sessions.find(({ id }) => id === session.id);
    expect(ended?.usage).toMatchObject({ processes: 0, calls: 0, busyMs: 0 });
    expect(ended?.lastBusyAt).toBeNull();
  });

  it("sees the memory and the processes of its own session, and nothing of another one on the same GPU", async () => {
    const other = pool.start(["run", "-n", "1", "-p", "0.5", "--", identity, "hold", "128"], {
      keepInput: true,
    });
    await other.until("holds");
    // The program's input ends with `sleep`; the shell's own says when to look.
    const line = `sleep 600 | ${identity} hold 256 & read word; python3 ${script}; kill $(jobs -p); wait`;
    const run = pool.start(["run", "-n", "1", "-p", "0.5", "--", "bash", "-c", line], {
      environment: { PYTHONPATH: python },
      keepInput: true,
    });
    await run.until("holds");
    const session = await pool.sessionOf(run);
    const own = await waitFor("the report of the process", async () => {
      const { processes } = await pool.client.call("showSession", { params: { sessionId: session.id } });
      const [first] = processes.filter(({ report }) =>
        report?.perGpu.some(({ memoryUsedBytes }) => memoryUsedBytes >= 256 * mib),
      );
      return first;
    });
    run.child.stdin?.write("now\n");
    await run.until('"nvml"');
    run.child.stdin?.end();
    other.child.stdin?.end();
    await Promise.all([run.ended, other.ended]);

    const gpu = linesOf<NvmlGpu>(run.stdout()).find((line) => "processes" in line);
    expect(gpu?.processes).toHaveLength(1);
    expect(gpu?.processes[0]?.pid).toBe(own.clientPid);
    expect(gpu?.processes[0]?.used).toBeGreaterThanOrEqual(256 * mib);
    expect(gpu?.used).toBe(gpu?.processes[0]?.used);
  });

  it("is not disturbed by CUDA_VISIBLE_DEVICES, which hides GPUs from CUDA only", async () => {
    const result = await pool.farpool(["run", "-n", "2", "--", "python3", script, "probe", "1"], {
      environment: { PYTHONPATH: python, CUDA_VISIBLE_DEVICES: "1" },
    });

    expect(result).toMatchObject({ status: 0, stdout: "2\n" });
  });

  it("finds no driver where there is no session", async () => {
    const result = await execute(["python3", script], {
      environment: { PYTHONPATH: python, LD_LIBRARY_PATH: dirname(library.shimNvml), FARPOOL_LOG: "stderr" },
    });

    expect(result.status).toBe(1);
    expect(result.stderr).toContain("NVMLError_DriverNotLoaded");
    expect(result.stderr).toContain("farpool run -n 1");
  });
});

describe("every symbol of NVML", () => {
  const names = [...loadNvmlSchema().calls.map(({ symbol }) => symbol), ...loadNvmlSchema().unsupported];

  it("answers, in a session, and nothing crashes", async () => {
    const program = [
      "import ctypes, sys",
      'nvml = ctypes.CDLL("libnvidia-ml.so.1")',
      "assert nvml.nvmlInit_v2() == 0",
      "zeros = [ctypes.c_void_p(0)] * 6",
      "for name in sys.argv[1].split(','):",
      "    print(name, getattr(nvml, name)(*zeros))",
      "table = ctypes.c_void_p(1)",
      'print("tables", nvml.nvmlInternalGetExportTable(ctypes.byref(table), (ctypes.c_char * 16)()), table.value)',
    ].join("\n");
    const asked = names.filter((name) => !/^nvml(Init|Shutdown|ErrorString)/.test(name));
    const result = await pool.farpool(["run", "-n", "1", "--", "python3", "-c", program, asked.join(",")]);

    expect(result).toMatchObject({ status: 0, stderr: "" });
    const answers = new Map(
      result.stdout
        .trim()
        .split("\n")
        .map((line) => [line.split(" ")[0], line.split(" ").slice(1).join(" ")]),
    );
    for (const name of loadNvmlSchema().unsupported) expect([name, answers.get(name)]).toEqual([name, "3"]);
    // With nothing but null, whatever is answered says that an argument is wrong.
    for (const name of asked.filter((each) => !loadNvmlSchema().unsupported.includes(each)))
      expect([name, answers.get(name)]).toEqual([name, name === "nvmlSystemGetProcessName" ? "6" : "2"]);
    expect(answers.get("tables")).toBe("3 None");
  });

  it("is exported by both libraries, which export nothing else but by what another release knows ours", async () => {
    for (const [path, more] of [
      [library.shimNvml, ["farpool_shim"]],
      [library.simgpuNvml, []],
    ] as const) {
      const { stdout } = await execute(["readelf", "--wide", "--dyn-syms", path]);
      const exported = [...stdout.matchAll(/(?:GLOBAL|WEAK)\s+DEFAULT\s+\d+\s+(\S+)/g)].map(
        (match) => match[1] ?? "",
      );
      expect(exported.toSorted()).toEqual([...names, ...more].toSorted());
    }
  });

  it("lies in a library that every Linux can load, and that stays loaded", async () => {
    const { stdout: dynamic } = await execute(["readelf", "--wide", "--dynamic", library.shimNvml]);
    const { stdout: versions } = await execute(["readelf", "--wide", "--version-info", library.shimNvml]);
    const newest = [...versions.matchAll(/GLIBC_2\.(\d+)/g)].map((match) => Number(match[1]));

    expect(dynamic).toMatch(/\(SONAME\).*\[libnvidia-ml\.so\.1\]/);
    expect(dynamic).toContain("NODELETE");
    expect(dynamic).not.toContain("STATIC_TLS");
    expect(Math.max(...newest)).toBeLessThanOrEqual(28);
  });
});

describe("the simulated GPU's NVML", () => {
  it("agrees with the simulated GPU's CUDA", async () => {
    const simulation = { FARPOOL_SIMGPU_MEMORY: "2GiB,1GiB", PYTHONPATH: python };
    const cuda = linesOf<CudaGpu>((await runDirectly([identity], 2, simulation)).stdout);
    const result = await runDirectly(["python3", script], 2, simulation);

    expect(result).toMatchObject({ status: 0, stderr: "" });
    const nvml = linesOf<NvmlGpu>(result.stdout).filter((line) => "uuid" in line);
    expect(cuda).toHaveLength(2);
    expect(nvml).toMatchObject(cuda);
    expect(nvml[0]).toMatchObject({ busy: "Not Supported", used: 0, processes: [] });
    const smi = await runDirectly(
      [nvidiaSmi, "--query-gpu=name,uuid,pci.bus_id,memory.total", "--format=csv,noheader,nounits"],
      2,
      simulation,
    );
    expect(smi.stdout.trim().split("\n")).toEqual(
      cuda.map(({ name, uuid, pci, memory }) => `${name}, ${uuid}, 0000${pci}, ${memory / mib}`),
    );
  });

  it("does not spoil a child's CUDA: it initialises nothing", async () => {
    const program = [
      "import ctypes, os, pynvml",
      "pynvml.nvmlInit()",
      "assert pynvml.nvmlDeviceGetCount() == 1",
      "child = os.fork()",
      "if child == 0:",
      '    cuda = ctypes.CDLL("libcuda.so.1")',
      "    os._exit(cuda.cuInit(0))",
      "print(os.waitpid(child, 0)[1])",
    ].join("\n");
    const result = await runDirectly(["python3", "-c", program], 1, { PYTHONPATH: python });

    expect(result).toMatchObject({ status: 0, stdout: "0\n" });
  });
});

describe("our nvidia-smi", () => {
  const smi = (size: readonly string[], ...words: readonly string[]): Promise<ProgramResult> =>
    pool.farpool(["run", ...size, "--", nvidiaSmi, ...words]);

  it("lists the GPUs of the session as CUDA names them", async () => {
    const { stdout, status } = await smi(["-n", "2"], "-L");

    expect(status).toBe(0);
    expect(stdout).toMatch(
      /^GPU 0: Farpool Simulated GPU \(UUID: GPU-[0-9a-f-]{36}\)\nGPU 1: Farpool Simulated GPU \(UUID: GPU-[0-9a-f-]{36}\)\n$/,
    );
  });

  it("shows a slice's memory, and nobody who uses it", async () => {
    const { stdout, status } = await smi(["-n", "1", "-m", "1024"]);

    expect(status).toBe(0);
    expect(stdout).toContain("CUDA Version: 13.0");
    expect(stdout).toMatch(/\| +0MiB \/ +1024MiB \| +0% +Default \|/);
    expect(stdout).toContain("No running processes found");
  });

  it("answers queries with and without units, and refuses a field by name", async () => {
    const whole = await smi(
      ["-n", "1"],
      "--query-gpu=index,memory.total,compute_cap,power.draw",
      "--format=csv",
    );
    const bare = await smi(["-n", "1"], "--query-gpu=memory.total", "--format=csv,noheader,nounits");
    const wrong = await smi(["-n", "1"], "--query-gpu=name,warp.speed", "--format=csv");

    expect(whole).toMatchObject({
      status: 0,
      stdout: "index, memory.total [MiB], compute_cap, power.draw [W]\n0, 4096 MiB, 8.0, [N/A]\n",
    });
    expect(bare).toMatchObject({ status: 0, stdout: "4096\n" });
    expect(wrong).toMatchObject({ status: 2 });
    expect(wrong.stdout).toContain('Field "warp.speed" is not a valid field to query.');
  });

  it("shows details by section, and single GPUs", async () => {
    const { stdout } = await smi(["-n", "2"], "-q", "-d", "MEMORY", "-i", "1");
    const missing = await smi(["-n", "1"], "-i", "7");

    expect(stdout.match(/^GPU 0000/gm)).toHaveLength(1);
    expect(stdout).toMatch(/FB Memory Usage\n +Total +: 4096 MiB\n/);
    expect(stdout).not.toContain("Product Name");
    expect(missing.status).toBe(6);
    expect(missing.stdout).toContain("`7`");
  });

  it("is what 'nvidia-smi' means on a machine that has none, and what 'farpool smi' is inside a session", async () => {
    // Whoever has NVIDIA's sees NVIDIA's.
    const environment = { PATH: "/usr/bin:/bin" };
    const named = await pool.farpool(["run", "-n", "1", "--", "nvidia-smi", "-L"], { environment });
    const inside = await pool.farpool(["run", "-n", "1", "--", farpool, "smi", "--", "-L"]);
    const outside = await pool.farpool(["smi", "--", "-L"]);

    expect(named).toMatchObject({ status: 0, stdout: expect.stringMatching(/^GPU 0: .*\n$/) });
    expect(inside).toMatchObject({ status: 0, stdout: named.stdout });
    expect(outside).toMatchObject({ status: 64 });
    expect(outside.stderr).toContain("farpool run -n 1 -- nvidia-smi -L");
  });

  it("says what to do where there is no session", async () => {
    const result = await execute([nvidiaSmi]);

    expect(result.status).toBe(9);
    expect(result.stdout).toContain("farpool run -n 1 -- nvidia-smi");
  });
});
