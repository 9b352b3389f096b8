import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseShare } from "@farpool/contract";
import { createFakeInstallation, temporaryFolder } from "@farpool/testkit";
import { afterEach, expect, test, vi } from "vitest";
import { setVerbosity } from "../core/output.ts";
import { installKernel, kernelId, type KernelOptions } from "./jupyter.ts";

setVerbosity("quiet");
afterEach(() => {
  vi.unstubAllEnvs();
});

test("kernels have a folder each, whatever they are called", () => {
  expect(kernelId("GPU ¼")).toBe("farpool-gpu-1-4");
  expect(kernelId("Python (GPU)")).toBe("farpool-python-gpu");
  expect(kernelId("图形")).toMatch(/^farpool-[0-9a-f]+$/);
  expect(kernelId("图形")).not.toBe(kernelId("计算"));
});

test("a kernel is written where Jupyter looks for it, and removed again", () => {
  using folder = temporaryFolder();
  vi.stubEnv("FARPOOL_DIST", createFakeInstallation(join(folder.path, "dist"), []));
  vi.stubEnv("XDG_DATA_HOME", "");
  vi.stubEnv("JUPYTER_DATA_DIR", join(folder.path, "jupyter"));
  const options: KernelOptions = {
    ...{ count: undefined, share: parseShare("0.25"), memory: undefined },
    ...{ name: "GPU ¼", python: undefined, isRemoved: false },
  };
  const file = join(folder.path, "jupyter/kernels/farpool-gpu-1-4/kernel.json");

  expect(installKernel(options)).toBe(0);
  const { argv } = JSON.parse(readFileSync(file, "utf8")) as { argv: string[] };
  expect(argv.join(" ")).toContain(
    " run -q -n 1 -p 0.25 -- python3 -m ipykernel_launcher -f {connection_file}",
  );
  expect(installKernel({ ...options, isRemoved: true })).toBe(0);
  expect(existsSync(file)).toBe(false);
});
