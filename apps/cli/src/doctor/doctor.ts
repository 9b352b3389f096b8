import { ERRORS } from "@farpool/contract";
import { findInstallation } from "@farpool/layout";
import { print, printJson } from "../core/output.ts";
import { poolAddress } from "../core/pool-client.ts";
import { checkExpiries, ownExpiries } from "../health/expiries.ts";
import type { Check } from "./check.ts";
import { checkMachine } from "./machine-checks.ts";
import { checkPool } from "./pool-checks.ts";
import { checkProgram } from "./program-checks.ts";
import { checkServices } from "./service-checks.ts";

const MARKS: Readonly<Record<Check["result"], string>> = {
  pass: "ok     ",
  warning: "warning",
  fail: "FAIL   ",
};

export async function doctor(isJson: boolean, [program]: readonly string[]): Promise<number> {
  const installation = findInstallation();
  const checks = [
    ...checkMachine(installation),
    ...(await checkServices(installation)),
    ...checkExpiries(ownExpiries(), Date.now()),
    ...(await checkPool(poolAddress())),
    ...(program === undefined ? [] : checkProgram(program, installation)),
  ];
  if (isJson) printJson({ checks });
  else {
    for (const { name, result, message, hint } of checks) {
      print(`${MARKS[result]}  ${name}: ${message}`);
      if (hint !== undefined) print(`         hint: ${hint}`);
    }
  }
  return checks.some(({ result }) => result === "fail") ? ERRORS.FARPOOL_UNAVAILABLE.exitCode : 0;
}
