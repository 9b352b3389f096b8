import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Pool, startPool } from "../e2e/kit/pool.ts";
import { execute, type ProgramResult, waitFor } from "../e2e/kit/program.ts";
import { type Service, startService } from "../e2e/kit/service.ts";
import { debianRoot, must } from "./kit/debian.ts";

// Containers that know nothing of Farpool, in images of different age: podman and the Container Device Interface.

const CDI_FILE = "/etc/cdi/farpool.yaml";
/** Memory, a copy there and back, and who is told how much there is. */
const PROGRAM = `
import ctypes, os
cu = ctypes.CDLL("libcuda.so.1")
def check(code): assert code == 0, code
check(cu.cuInit(0))
context, device, memory = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_uint64()
check(cu.cuDeviceGet(ctypes.byref(device), 0))
check(cu.cuCtxCreate_v2(ctypes.byref(context), 0, device))
data = os.urandom(1 << 20)
back = ctypes.create_string_buffer(len(data))
check(cu.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(len(data))))
check(cu.cuMemcpyHtoD_v2(memory, data, ctypes.c_size_t(len(data))))
check(cu.cuMemcpyDtoH_v2(back, memory, ctypes.c_size_t(len(data))))
assert back.raw == data
nvml = ctypes.CDLL("libnvidia-ml.so.1")
count = ctypes.c_uint()
check(nvml.nvmlInit_v2())
check(nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)))
print(os.confstr("CS_GNU_LIBC_VERSION"), "GPUs:", count.value)
`;
/** A machine whose own first process is no systemd: limits that it may not set are left out. */
const RUNTIME = `#!/usr/bin/env python3
import json, os, sys
if "create" in sys.argv:
    bundle = sys.argv[sys.argv.index("--bundle") + 1] if "--bundle" in sys.argv else "."
    path = os.path.join(bundle, "config.json")
    with open(path) as file: config = json.load(file)
    for name in ("rlimits", "oomScoreAdj"): config["process"].pop(name, None)
    with open(path, "w") as file: json.dump(config, file)
os.execv("/usr/bin/crun", ["crun", *sys.argv[1:]])
`;
const SETTINGS = `[containers]
cgroups = "disabled"
netns = "host"
log_driver = "none"
[engine]
cgroup_manager = "cgroupfs"
`;

let folder: string;
let pool: Pool;
let service: Service;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "farpool-containers-"));
  chmodSync(folder, 0o755);
  mkdirSync(join(folder, "runtime"));
  writeFileSync(join(folder, "runtime", "crun"), RUNTIME, { mode: 0o755 });
  writeFileSync(join(folder, "containers.conf"), SETTINGS);
  writeFileSync(join(folder, "program.py"), PROGRAM);
  pool = await startPool(1);
  service = await startService(pool, "hold: on-demand\nidle-timeout: 500ms\n");
  const written = await pool.farpool(["service", "cdi"], { environment: service.environment });
  if (written.status !== 0) throw new Error(`farpool service cdi: ${written.stderr}`);
}, 600_000);
afterAll(async () => {
  await service.stop();
  await pool.stop();
  rmSync(CDI_FILE, { force: true });
  rmSync(folder, { recursive: true, force: true });
});

function podman(image: string, ...words: readonly string[]): Promise<ProgramResult> {
  const run = [
    ...["podman", "--root", join(folder, "storage"), "--runroot", join(folder, "run")],
    ...["--storage-driver", "vfs", "--runtime", join(folder, "runtime", "crun"), "run", "--rm"],
    ...["--volume", `${folder}/program.py:/program.py:ro`, ...words],
  ];
  const line = [...run, "--rootfs", image, "python3", "/program.py"].map((word) => `'${word}'`).join(" ");
  const script = `umount /sys/fs/cgroup/unified 2>/dev/null; exec ${line}`;
  return execute(["unshare", "-m", "--propagation", "private", "sh", "-c", script], {
    environment: { CONTAINERS_CONF: join(folder, "containers.conf") },
  });
}

/** A container may write into its root. */
function imageOf(release: "bookworm" | "bullseye"): string {
  const image = mkdtempSync(join(folder, `${release}-`));
  const copied = ["cp", "-a", "--reflink=auto", `${debianRoot(release, ["python3"])}/.`, image];
  must(copied);
  return image;
}

it.each([
  ["bookworm", "glibc 2.36"],
  ["bullseye", "glibc 2.31"],
] as const)(
  "a program in a container of %s computes on the pool's GPU, and gives it back",
  async (release, libc) => {
    const result = await podman(imageOf(release), "--device", "farpool.dev/gpu=all");
    expect(result).toMatchObject({ status: 0, stderr: "", stdout: `${libc} GPUs: 1\n` });
    await waitFor("the GPU is given back", async () =>
      (await service.status()).state === "idle" ? true : undefined,
    );
  },
);

it("a container without the device has no GPU", async () => {
  const result = await podman(imageOf("bookworm"));
  expect(result.status).not.toBe(0);
  expect(result.stderr).toContain("libcuda.so.1: cannot open shared object file");
});
