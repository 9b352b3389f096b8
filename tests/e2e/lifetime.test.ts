import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { root } from "../../scripts/repository.ts";
import { type Pool, example, startPool } from "./kit/pool.ts";
import { type RunningProgram, waitFor } from "./kit/program.ts";

// How sessions end by themselves, seen by the program that loses its GPU.

let pool: Pool;
beforeAll(async () => {
  pool = await startPool();
});
afterAll(async () => {
  await pool.stop();
});

const manual = readFileSync(join(root, "docs", "user", "errors.md"), "utf8");

/** Computes once, and once more for each line that it reads, until a call fails for good. */
async function startOutage(
  words: readonly string[],
  log: string,
  transport: "tcp" | "unix" = "tcp",
): Promise<RunningProgram> {
  const run = pool.start([...words, "--", example("lifetimes"), "outage"], {
    keepInput: true,
    environment: { FARPOOL_LOG: log, FARPOOL_TRANSPORT: transport },
  });
  await run.until("round 1\n");
  return run;
}

/** When the session has ended: what its program, its log and the person at the terminal are told. */
async function afterTheEnd(run: RunningProgram, log: string) {
  await run.until("has ended, its programs lose their GPUs");
  await waitFor("the release of the GPU", async () => ((await pool.gpu()).wholeFree ? true : undefined));
  run.child.stdin?.end("\n");
  const { status, stdout, stderr } = await run.ended;
  return { status, stdout, stderr, log: readFileSync(log, "utf8") };
}

describe("a session ends", () => {
  it.each(["tcp", "unix"] as const)(
    "when its program makes no call, over %s: a warning, then a sticky error",
    async (transport) => {
      const log = join(pool.folder, `idle-${transport}.log`);
      const run = await startOutage(["run", "--idle-timeout", "5s"], log, transport);
      const { id } = await pool.sessionOf(run);

      const after = await afterTheEnd(run, log);

      const sentence =
        /idle for \d+(\.\d)? s: no kernel, copy or call of its programs \(its idle timeout is 5\.0 s\)/;
      expect(after).toMatchObject({
        status: 0,
        stdout: expect.stringMatching(/failed with cudaErrorDevicesUnavailable after [\d.]+ s\nPASSED\n$/),
        log: expect.stringMatching(sentence),
      });
      expect(after.stderr).toMatch(
        new RegExp(
          `^farpool: session ${id}: idle for .*: it ends in .* unless a program uses its GPUs\n.*has ended, its programs lose their GPUs: ${sentence.source}\n$`,
        ),
      );
      expect(manual).toContain("idle for …: no kernel, copy or call of its programs (its idle timeout is …)");
      await pool.expectNothingHeld();
    },
  );

  it("when its maximum duration is over, however busy its program is", async () => {
    const log = join(pool.folder, "duration.log");
    const run = await startOutage(["run", "--max-duration", "5s"], log);

    const after = await afterTheEnd(run, log);

    expect(after).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/failed with cudaErrorDevicesUnavailable after [\d.]+ s\nPASSED\n$/),
      stderr: expect.stringMatching(/is over in .*'farpool sessions extend s-\w+ 1h' asks for more\n/),
      log: expect.stringContaining("its maximum duration of 5.0 s is over"),
    });
    expect(manual).toContain("its maximum duration of … is over");
    await pool.expectNothingHeld();
  });

  it("when it is released, under a program that is attached to it", async () => {
    const log = join(pool.folder, "release.log");
    const id = (await pool.farpool(["reserve", "-n", "1"])).stdout.trim();
    const run = await startOutage(["attach", id], log);
    expect(await pool.farpool(["release", id])).toMatchObject({ status: 0 });

    const after = await afterTheEnd(run, log);

    expect(after).toMatchObject({
      status: 0,
      log: expect.stringContaining(`session ${id} has ended: released`),
    });
    expect(after.stdout).toMatch(/failed with cudaErrorDevicesUnavailable after [\d.]+ s\nPASSED\n$/);
    await pool.expectNothingHeld();
  });
});

describe("a session is not idle", () => {
  it("while its program launches, now and then", async () => {
    const words = ["run", "--idle-timeout", "5s", "--", example("busy"), "8", "16", "1500"];
    expect(await pool.farpool(words)).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/PASSED\n$/),
      stderr: "",
    });
  });

  it("during a kernel that runs for longer than the timeout", async () => {
    const words = ["run", "--idle-timeout", "5s", "--", example("long-kernel"), "12000"];
    expect(await pool.farpool(words)).toMatchObject({ status: 0, stdout: "PASSED\n", stderr: "" });
  });
});

describe("a reserved session", () => {
  it("runs programs that find the same GPU, and keeps it between them", async () => {
    const id = (await pool.farpool(["reserve", "-p", "0.5", "--auto-release", "1h"])).stdout.trim();
    for (let round = 0; round < 2; round += 1) {
      const result = await pool.farpool(["attach", id, "--", example("vector-add")]);
      expect(result).toMatchObject({ status: 0, stdout: expect.stringContaining("PASSED"), stderr: "" });
    }
    await waitFor("the last worker's end", async () => {
      const shown = await pool.farpool(["sessions", "show", "--json", id]);
      const { state, processes } = JSON.parse(shown.stdout) as {
        state: string;
        processes: { endedAt: string | null }[];
      };
      expect(state).toBe("active");
      return processes.length === 2 && processes.every(({ endedAt }) => endedAt !== null) ? true : undefined;
    });
    expect((await pool.gpu()).sessions).toHaveLength(1);
    expect(await pool.farpool(["release", id])).toMatchObject({ status: 0 });
    await pool.expectNothingHeld();
  });
});
