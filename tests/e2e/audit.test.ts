import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { library } from "../../scripts/repository.ts";
import { type Pool, startPool } from "./kit/pool.ts";
import { execute } from "./kit/program.ts";

// Programs that the loader's order does not lead to the shim, and LD_AUDIT does.

const AUDIT = { LD_AUDIT: library.audit };
const ABSENT = "/usr/lib/x86_64-linux-gnu/nvidia/current/libcuda.so.1";

let pool: Pool;
beforeAll(async () => {
  pool = await startPool(2);
});
afterAll(async () => {
  await pool.expectNothingHeld();
  await pool.stop();
});

const counting = (path: string): string =>
  `import ctypes; cu = ctypes.CDLL("${path}"); n = ctypes.c_int(); assert cu.cuInit(0) == 0; cu.cuDeviceGetCount(ctypes.byref(n)); print(n.value)`;

it("a libcuda that is loaded by its path is the shim, and only with LD_AUDIT", async () => {
  const words = ["run", "-n", "2", "--", "python3", "-c", counting(ABSENT)];
  const without = await pool.farpool(words);
  expect(without.status).not.toBe(0);
  expect(without.stderr).toContain("cannot open shared object file");
  expect(await pool.farpool(words, { environment: AUDIT })).toMatchObject({ status: 0, stdout: "2\n" });
});

it("a libcuda in the program's own RPATH gives way to the shim, and doctor names the way", async () => {
  const folder = join(pool.folder, "rival");
  mkdirSync(folder);
  copyFileSync(library.simgpu, join(folder, "libcuda.so.1"));
  const [source, program] = [join(pool.folder, "count.c"), join(pool.folder, "count")];
  writeFileSync(
    source,
    `#include <stdio.h>
int cuInit(unsigned), cuDeviceGetCount(int *);
const char *elsewhere = "${ABSENT}";
int main(void) { int n = -1; if (cuInit(0) == 0) cuDeviceGetCount(&n); printf("%d\\n", n); return 0; }
`,
  );
  const rpath = ["-Wl,--disable-new-dtags", `-Wl,-rpath,${folder}`];
  const built = await execute(["cc", source, "-o", program, join(folder, "libcuda.so.1"), ...rpath]);
  expect(built).toMatchObject({ status: 0 });
  const words = ["run", "-n", "2", "--", program];
  // The rival is a simulated GPU of this machine's own.
  expect(await pool.farpool(words)).toMatchObject({ status: 0, stdout: "1\n" });
  expect(await pool.farpool(words, { environment: AUDIT })).toMatchObject({ status: 0, stdout: "2\n" });
  const { stdout, stderr } = await pool.farpool(["doctor", "--", program]);
  const said = stdout + stderr;
  expect(said).toContain(`${program} would load ${join(folder, "libcuda.so.1")} (its RPATH)`);
  expect(said).toContain(`${program} names ${ABSENT}`);
  expect(said).toContain(`LD_AUDIT=${library.audit}`);
});

it("needs the C library of 2018 and nothing else", async () => {
  const { stdout } = await execute(["readelf", "--wide", "--dynamic", "--version-info", library.audit]);
  expect(dirname(library.audit)).toMatch(/lib\/audit$/);
  const newest = Math.max(...[...stdout.matchAll(/GLIBC_2\.(\d+)/g)].map((match) => Number(match[1])));
  expect(newest).toBeLessThanOrEqual(28);
  const needed = [...stdout.matchAll(/\(NEEDED\).*\[(.+)\]/g)].map((match) => match[1]);
  for (const name of needed)
    expect(["libc.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "libdl.so.2", "libpthread.so.0"]).toContain(
      name,
    );
});
