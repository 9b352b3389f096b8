import { main } from "./progress.ts";
import { type StepReport, printBudget, printStep } from "./test/report.ts";
import { type Step, steps } from "./test/steps.ts";

// npm test                      everything
// npm test -- native clippy     only the areas and steps that are named (by area or part of the name)
await main(async () => {
  const wanted = process.argv.slice(2);
  const chosen = steps.filter(
    (step) => wanted.length === 0 || wanted.some((word) => step.area === word || step.name.includes(word)),
  );
  const reports: StepReport[] = [];
  for (const step of chosen) {
    const started = performance.now();
    const isBlocked = step.needsBuild === true && reports.some(isFailedSetUp);
    const result = isBlocked ? notRun(step) : await step.execute();
    const report = { step, result, seconds: (performance.now() - started) / 1000 };
    printStep(report);
    reports.push(report);
  }
  printBudget(reports, Number(process.env["FARPOOL_SETUP_MS"] ?? 0) / 1000);
  const passed = reports.reduce((sum, { result }) => sum + result.passed, 0);
  const failed = reports.reduce((sum, { result }) => sum + result.failed, 0);
  process.stdout.write(`${passed} passed, ${failed} failed\n`);
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
});

function isFailedSetUp({ step, result }: StepReport): boolean {
  return step.area === "set-up" && result.failed > 0;
}

function notRun(step: Step) {
  const reason = `${step.name}: not run, because set-up failed`;
  return { passed: 0, failed: 1, failures: [reason], output: "" };
}
