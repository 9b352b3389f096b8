import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { FarpoolError, type Size } from "@farpool/contract";
import { findInstallation } from "@farpool/layout";
import { print, say } from "../core/output.ts";
import { forShell } from "./quoting.ts";

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
  const id = kernelId(title);
  const folder = join(jupyterFolder(), "kernels", id);
  const text = options.isRemoved ? "" : `${JSON.stringify(kernelSpecification(options, title), null, 2)}\n`;
  try {
    if (options.isRemoved) {
      if (!existsSync(folder)) say(`there is no kernel '${title}': ${folder} is missing`);
      rmSync(folder, { recursive: true, force: true });
      return 0;
    }
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "kernel.json"), text);
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new FarpoolError("FARPOOL_NOT_PERMITTED", `the kernel in ${folder} cannot be changed (${code})`, {
      hint: "JUPYTER_DATA_DIR names another folder for Jupyter's files of this user",
      cause,
    });
  }
  print(id);
  say(
    `Jupyter offers '${title}'; 'farpool jupyter install --remove --name ${forShell(title)}' takes it away`,
  );
  return 0;
}

/** As Jupyter calls its folder: letters, digits and hyphens. Exported for its test. */
export function kernelId(title: string): string {
  const words =
    title
      .normalize("NFKD")
      .toLowerCase()
      .match(/[a-z0-9]+/g) ?? [];
  // A name in another script is told apart by its characters.
  const name = words.length > 0 ? words.join("-") : Buffer.from(title).toString("hex").slice(0, 40);
  return `farpool-${name}`;
}

/** Where Jupyter looks for kernels of this user. */
function jupyterFolder(): string {
  const own = process.env["JUPYTER_DATA_DIR"] ?? "";
  if (own !== "") return own;
  const data = process.env["XDG_DATA_HOME"] ?? "";
  return join(data === "" ? join(homedir(), ".local/share") : data, "jupyter");
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
