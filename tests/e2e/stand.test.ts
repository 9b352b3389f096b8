import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { dist, library } from "../../scripts/repository.ts";
import { example } from "./kit/pool.ts";
import { processesMentioning } from "./kit/processes.ts";
import { execute, start, waitFor } from "./kit/program.ts";

const stand = join(dist, "bin", "farpool-stand");

function folder(): string {
  const made = mkdtempSync(join(tmpdir(), "farpool-e2e-stand-"));
  onTestFinished(() => {
    rmSync(made, { recursive: true, force: true });
  });
  return made;
}

function environment(of: string): Record<string, string> {
  return { TMPDIR: of, FARPOOL_SIMGPU_STATE: join(of, "simgpu") };
}

const driver = ["--driver", join(dirname(library.simgpu), "libcuda.so.1")];

describe("farpool-stand", () => {
  it("runs a command in a session and leaves nothing", async () => {
    const own = folder();
    const result = await execute([stand, ...driver, "--", example("vector-add")], {
      environment: environment(own),
    });

    expect(result).toMatchObject({ status: 0, stderr: "" });
    expect(result.stdout).toMatch(/PASSED\n$/);
    expect(readdirSync(own).filter((name) => name.startsWith("farpool-stand-"))).toEqual([]);
  });

  it.each(["SIGTERM", "SIGINT", "SIGKILL"] as const)("leaves nothing when %s ends it", async (signal) => {
    const own = folder();
    const left = (): readonly string[] =>
      readdirSync(own).filter((name) => name.startsWith("farpool-stand-"));
    const run = start([stand, ...driver, "--", "sh", "-c", "echo started; exec sleep 5"], {
      environment: environment(own),
    });
    await run.until("started");
    expect(left()).toHaveLength(1);
    run.child.kill(signal);

    await waitFor("the end of the acceptor and its folder", () => {
      const acceptors = processesMentioning(own).filter(({ command }) =>
        command.includes("farpool-acceptor"),
      );
      return left().length === 0 && acceptors.length === 0 ? true : undefined;
    });
    await run.ended;
  });
});
