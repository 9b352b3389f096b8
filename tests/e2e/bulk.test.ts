import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Pool, example, startPool } from "./kit/pool.ts";

let pool: Pool;
beforeAll(async () => {
  pool = await startPool();
});
afterAll(async () => {
  await pool.stop();
});

describe.each(["unix", "tcp"])("bulk copies over %s", (transport) => {
  const environment = { FARPOOL_TRANSPORT: transport };

  it("go both ways at once", async () => {
    const result = await pool.farpool(["run", "-n", "1", "--", example("both-ways")], { environment });

    expect(result).toMatchObject({ status: 0, stderr: "" });
    expect(result.stdout).toMatch(/PASSED\n$/);
  });

  it("do not keep a program from ending, behind a kernel that never does", async () => {
    const result = await pool.farpool(["run", "-n", "1", "--", example("both-ways"), "exit"], {
      environment,
    });

    expect(result).toMatchObject({ status: 3, stdout: "leaving\n", stderr: "" });
    await pool.expectNothingHeld();
  });
});
