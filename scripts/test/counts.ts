/** What a step of the test run comes to: how many things passed, how many failed, and which. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
  /** A line for each failure, when the runner tells. */
  readonly failures: readonly string[];
}

/** A check without tests of its own counts as one. */
export function countCheck(name: string, status: number): Counts {
  return status === 0 ? { passed: 1, failed: 0, failures: [] } : { passed: 0, failed: 1, failures: [name] };
}

/** A runner must have run something, and its status must agree with its numbers. */
export function settle(name: string, status: number, counts: Counts): Counts {
  if (counts.passed + counts.failed === 0) {
    return { passed: 0, failed: 1, failures: [`${name}: no test was run`] };
  }
  if (status !== 0 && counts.failed === 0) {
    return {
      ...counts,
      failed: 1,
      failures: [`${name}: ended with status ${status} although no test failed`],
    };
  }
  return counts;
}

/** Sums the `test result:` lines of `cargo test`. An ignored test is a skipped one, so it counts as failed. */
export function countCargo(output: string): Counts {
  let passed = 0;
  let failed = 0;
  const failures: string[] = [];
  for (const line of output.split("\n")) {
    const result = /^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/.exec(line);
    if (result !== null) {
      passed += Number(result[1]);
      failed += Number(result[2]) + Number(result[3]);
    }
    const single = /^test (.+) \.\.\. (FAILED|ignored)/.exec(line);
    if (single !== null) failures.push(`${single[1]} (${single[2]?.toLowerCase()})`);
    const broken = /^error: (could not compile .+)$/.exec(line);
    if (broken !== null) {
      failed += 1;
      failures.push(broken[1] ?? line);
    }
  }
  return { passed, failed, failures };
}

interface VitestReport {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages?: readonly string[] | null;
    }[];
  }[];
}

/** Sums vitest's JSON report. Everything that did not pass failed: there are no skips. */
export function countVitest(json: string): Counts {
  const report = JSON.parse(json) as VitestReport;
  let passed = 0;
  const failures: string[] = [];
  for (const file of report.testResults) {
    for (const test of file.assertionResults) {
      if (test.status === "passed") passed += 1;
      else failures.push(`${test.fullName}: ${firstLine(test.failureMessages?.[0] ?? test.status)}`);
    }
    const broken =
      file.status !== "passed" && file.assertionResults.every((test) => test.status === "passed");
    if (broken) failures.push(`${file.name}: ${firstLine(file.message)}`);
  }
  return { passed, failed: failures.length, failures };
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0] ?? "";
}
