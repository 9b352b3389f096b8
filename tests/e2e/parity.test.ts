import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { scenarios } from "../../scripts/gpu/known-differences.ts";
import { type Pool, example, runDirectly, startPool } from "./kit/pool.ts";

const gpus = 2;
let pool: Pool;
beforeAll(async () => {
  pool = await startPool(gpus);
});
afterAll(async () => {
  await pool.stop();
});

/** "what: call" of a line of error-parity's table. */
function nameOf(line: string): string {
  return `${line.slice(0, 46).trim()}: ${line.slice(47, 83).trim()}`;
}

describe("every error of a program", () => {
  it("is in a scenario that is compared", async () => {
    const listed = await runDirectly([example("error-parity"), "--list"]);

    expect(listed.stdout.trim().split("\n").toSorted()).toEqual(Object.keys(scenarios).toSorted());
  });

  it.each(Object.entries(scenarios))("has the same code through the pool: %s", async (scenario, known) => {
    const words = [example("error-parity"), scenario];
    const direct = await runDirectly(words, gpus);
    const pooled = await pool.farpool(["run", "-n", String(gpus), "--", ...words]);

    expect(direct.status).toBe(0);
    expect(pooled.status).toBe(0);
    const [expected, found] = [direct.stdout.split("\n"), pooled.stdout.split("\n")];
    expect(found).toHaveLength(expected.length);
    const mayDiffer = Object.values(known).flat();
    const compared = expected.map((line, index) => [line, found[index]] as const);
    const wrong = compared.filter(([line, other]) => line !== other && !mayDiffer.includes(nameOf(line)));
    expect(wrong).toEqual([]);
  });
});
