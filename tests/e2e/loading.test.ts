import { dirname } from "node:path";
import { describe, expect, it } from "vitest";
import { library } from "../../scripts/repository.ts";
import { example } from "./kit/pool.ts";
import { execute } from "./kit/program.ts";

/** What a loader reads of a shared object. */
async function readElf(path: string, ...options: readonly string[]): Promise<string> {
  const result = await execute(["readelf", "--wide", ...options, path]);
  expect(result).toMatchObject({ status: 0 });
  return result.stdout;
}

function allMatches(text: string, pattern: RegExp): readonly string[] {
  return [...new Set([...text.matchAll(pattern)].map((match) => match[1] ?? ""))].toSorted();
}

describe("libcuda.so.1 for client processes", () => {
  it("needs only what every Linux has", async () => {
    const dynamic = await readElf(library.shim, "--dynamic");

    const allowed = [
      "ld-linux-x86-64.so.2",
      "libc.so.6",
      "libdl.so.2",
      "libgcc_s.so.1",
      "libm.so.6",
      "libpthread.so.0",
    ];
    const needed = allMatches(dynamic, /\(NEEDED\).*\[(.+)\]/g);
    expect(needed).toContain("libc.so.6");
    expect(needed.filter((name) => !allowed.includes(name))).toEqual([]);
  });

  it("needs no symbol newer than GLIBC_2.28", async () => {
    const versions = allMatches(await readElf(library.shim, "--version-info"), /GLIBC_(\d+\.\d+)/g);

    const newest = versions.map((version) => Number(version.split(".")[1])).toSorted((a, b) => b - a)[0];
    expect(versions.length).toBeGreaterThan(0);
    expect(newest).toBeLessThanOrEqual(28);
  });

  it("exports the driver API, by what another release knows it, and nothing else", async () => {
    const symbols = await readElf(library.shim, "--dyn-syms");
    const exported = [...symbols.matchAll(/(?:GLOBAL|WEAK)\s+DEFAULT\s+\d+\s+(\S+)/g)].map(
      (match) => match[1] ?? "",
    );

    expect(exported.length).toBeGreaterThanOrEqual(400);
    expect(exported.filter((name) => !/^cu[A-Z]/.test(name))).toEqual(["farpool_shim"]);
  });

  it("is never unloaded, and uses no initial-exec TLS", async () => {
    const dynamic = await readElf(library.shim, "--dynamic");

    expect(dynamic).toContain("NODELETE");
    expect(dynamic).not.toContain("STATIC_TLS");
  });

  it("calls itself libcuda.so.1", async () => {
    expect(await readElf(library.shim, "--dynamic")).toMatch(/\(SONAME\).*\[libcuda\.so\.1\]/);
  });

  it("ends a program that must have a GPU, whatever that program does at its exit", async () => {
    const script = `import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def leave(_): print(cuda.cuInit(0), cuda.cuMemFree_v2(None), flush=True)
ctypes.CDLL(None).__cxa_atexit(leave, None, None)
cuda.cuInit(0)`;

    const result = await execute(["python3", "-c", script], {
      environment: { LD_LIBRARY_PATH: dirname(library.shim), FARPOOL_REQUIRED: "1" },
    });

    expect(result).toMatchObject({ status: 69, stdout: "4 4\n" });
  });

  it("lets a program see no GPU when there is no session", async () => {
    const result = await execute([example("device-query")], {
      environment: { LD_LIBRARY_PATH: dirname(library.shim) },
    });

    expect(result).toMatchObject({ status: 1, stdout: "no GPU\n" });
  });
});
