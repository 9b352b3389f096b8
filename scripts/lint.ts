import { main } from "./progress.ts";
import { printStep } from "./test/report.ts";
import { steps } from "./test/steps.ts";

/** All checks that need no running program; it goes on after a failure so that one run shows them all. */
await main(async () => {
  for (const step of steps.filter((candidate) => candidate.isStatic === true)) {
    const started = performance.now();
    const result = await step.execute();
    printStep({ step, result, seconds: (performance.now() - started) / 1000 });
    if (result.failed > 0) process.exitCode = 1;
  }
});
