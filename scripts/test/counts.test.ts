import { describe, expect, it } from "vitest";
import { countCargo, countVitest, settle } from "./counts.ts";

describe("countCargo", () => {
  it("sums all test binaries", () => {
    const output = [
      "test record::tests::round_trip ... ok",
      "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
      "test codec::tests::truncated ... FAILED",
      "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
    ].join("\n");

    expect(countCargo(output)).toEqual({
      passed: 15,
      failed: 1,
      failures: ["codec::tests::truncated (failed)"],
    });
  });

  it("counts an ignored test as failed", () => {
    const output =
      "test slow ... ignored\ntest result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";

    expect(countCargo(output)).toEqual({ passed: 1, failed: 1, failures: ["slow (ignored)"] });
  });

  it("counts a crate that does not compile as failed", () => {
    const output = "error: could not compile `wire` (lib test) due to 1 previous error";

    expect(countCargo(output).failed).toBe(1);
  });
});

describe("countVitest", () => {
  it("names the tests that failed or were skipped", () => {
    const report = {
      testResults: [
        {
          name: "/a.test.ts",
          status: "failed",
          message: "",
          assertionResults: [
            { fullName: "a passes", status: "passed", failureMessages: [] },
            { fullName: "a fails", status: "failed", failureMessages: ["expected 1\n  to be 2"] },
            { fullName: "a waits", status: "skipped" },
          ],
        },
      ],
    };

    expect(countVitest(JSON.stringify(report))).toEqual({
      passed: 1,
      failed: 2,
      failures: ["a fails: expected 1", "a waits: skipped"],
    });
  });

  it("counts a file that cannot be loaded as one failure", () => {
    const report = {
      testResults: [
        { name: "/b.test.ts", status: "failed", message: "no such module\nat …", assertionResults: [] },
      ],
    };

    expect(countVitest(JSON.stringify(report)).failures).toEqual(["/b.test.ts: no such module"]);
  });
});

describe("settle", () => {
  it("fails a runner that ran nothing", () => {
    const counts = settle("unit tests", 0, { passed: 0, failed: 0, failures: [] });

    expect(counts).toEqual({ passed: 0, failed: 1, failures: ["unit tests: no test was run"] });
  });

  it("fails a runner whose status contradicts its numbers", () => {
    const counts = settle("unit tests", 1, { passed: 5, failed: 0, failures: [] });

    expect(counts.failed).toBe(1);
  });
});
