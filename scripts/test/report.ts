import { formatSeconds, write } from "../progress.ts";
import { tail } from "../process.ts";
import { type Area, type Step, type StepResult, budgets } from "./steps.ts";

export interface StepReport {
  readonly step: Step;
  readonly result: StepResult;
  readonly seconds: number;
}

/** One line for a step that passed; for one that failed also the failures and the end of its output. */
export function printStep({ step, result, seconds }: StepReport): void {
  const verdict = result.failed === 0 ? "ok    " : "FAILED";
  const count =
    result.passed + result.failed > 1 ? ` (${result.passed} of ${result.passed + result.failed})` : "";
  write(`${verdict} ${step.area}: ${step.name}${count}  ${formatSeconds(seconds)}`);
  if (result.failed === 0) return;
  write(indent(tail(result.output, 60)));
  for (const failure of result.failures) write(`       failed: ${failure}`);
}

/** What each area used of its time. */
export function printBudget(reports: readonly StepReport[], installSeconds: number): void {
  write("\narea          used         budget");
  for (const area of Object.keys(budgets) as Area[]) {
    const own = reports.filter((report) => report.step.area === area);
    const used = own.reduce((sum, report) => sum + report.seconds, area === "set-up" ? installSeconds : 0);
    const amount = own.length === 0 ? "no tests yet" : formatSeconds(used);
    const over = used > budgets[area] * 60 ? "  over budget" : "";
    write(`${area.padEnd(14)}${amount.padEnd(13)}${String(budgets[area]).padStart(2)} min${over}`);
  }
  write("");
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, "       ");
}
