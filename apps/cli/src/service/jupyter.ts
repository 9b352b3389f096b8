import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { FarpoolError, type Size } from "@farpool/contract";
import { findInstallation } from "@farpool/layout";
import { print, say } from "../core/output.ts";

export interface KernelOptions {
  readonly count: number | undefined;
  readonly share: Size | undefined;
  readonly memory: Size | undefined;
  readonly name: string | undefined;
  readonly python: string | undefined;
  readonly isRemoved: boolean;
}

/** A kernel that has a session of its own; with a client service every kernel has a GPU, and needs none of this. */
export function installKernel(options: KernelOptions): number {
  const title = options.name ?? "Python (GPU)";
  const id = `farpool-${title
    .normalize("NFKD")
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-|-$/g, "")}`;
  const folder = join(process.env["XDG_DATA_HOME"] ?? join(homedir(), ".local/share"), "jupyter/kernels", id);
  if (options.isRemoved) {
    rmSync(folder, { recursive: true, force: true });
    return 0;
  }
  try {
    mkdirSync(folder, { recursive: true });
    writeFileSync(
      join(folder, "kernel.json"),
      `${JSON.stringify(kernelSpecification(options, title), null, 2)}\n`,
    );
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new FarpoolError("FARPOOL_NOT_PERMITTED", `the kernel cannot be written to ${folder} (${code})`, {
      hint: "XDG_DATA_HOME names another folder for Jupyter's files of this user",
      cause,
    });
  }
  print(id);
  say(`Jupyter offers '${title}'; 'farpool jupyter install --remove --name' takes it away`);
  return 0;
}

export function kernelSpecification(options: KernelOptions, title: string): object {
  const { count, share, memory } = options;
  if (share !== undefined && memory !== undefined)
    throw new FarpoolError(
      "FARPOOL_USAGE",
      "-p and -m both say how large the GPUs are; one of them is enough",
      {
        hint: "-p is a share of each GPU, -m an amount of memory",
      },
    );
  const sizes = [
    ...["-n", String(count ?? 1)],
    ...(share?.kind === "share" ? ["-p", String(share.share)] : []),
    ...(memory?.kind === "memory" ? ["-m", String(memory.memoryMib)] : []),
  ];
  return {
    argv: [
      ...[process.execPath, findInstallation().cli, "run", "-q", ...sizes, "--"],
      ...[options.python ?? "python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
    ],
    display_name: title,
    language: "python",
    // A message would stop `farpool run` no better than a signal, which it passes on.
    interrupt_mode: "signal",
  };
}
