import { formatBytes } from "@farpool/contract";
import type { ServiceScope } from "@farpool/layout";
import { counted, print, printJson } from "../core/output.ts";
import { askServices, type AskedService, type ServiceStatus } from "./ask.ts";
import { describeOrder, lookAround, orderLine, type GpuOrder } from "./gpu-order.ts";
import { wantedScopes, type Scopes } from "./scopes.ts";

const EVERY: Scopes = { isSystem: false, isUser: false };

/** `farpool service status`. */
export async function status(options: Scopes & { readonly isJson: boolean }): Promise<number> {
  const shown = wantedScopes(options);
  // Where programs get their GPUs from all of them decide.
  const all = await askServices(wantedScopes(EVERY));
  const asked = options.isSystem || options.isUser ? all.filter(({ scope }) => shown.includes(scope)) : all;
  const found = asked.flatMap((each) => each.status ?? []);
  const order = describeOrder(lookAround(all));
  if (options.isJson) printJson({ services: found, programs: order });
  else {
    for (const each of asked) print(describe(each));
    if (asked.length === 0) print("no client service runs");
    print(`programs look for GPUs here: ${orderLine(order)}`);
    print(`started in this shell they use ${order.sentence}`);
  }
  for (const each of asked) if (each.status === undefined) throw each.trouble;
  return found.length > 0 ? 0 : 69;
}

/** For `farpool status`: nothing where there is no service. */
export async function serviceSummary(timeoutMs: number): Promise<{
  readonly services: readonly ServiceStatus[];
  readonly lines: readonly string[];
  readonly programs: GpuOrder;
}> {
  const asked = await askServices(wantedScopes(EVERY), timeoutMs);
  return {
    services: asked.flatMap((each) => each.status ?? []),
    lines: asked.map((each) => `${whose(each.scope)}, ${sentenceOf(each)}`),
    programs: describeOrder(lookAround(asked)),
  };
}

const whose = (scope: ServiceScope): string => (scope === "user" ? "your own" : "this machine's");

function sentenceOf(asked: AskedService): string {
  if (asked.status === undefined) return asked.trouble.message;
  const { state, sentence, you } = asked.status;
  return `${state}: ${sentence}${you.refusal === null ? "" : `; not for you: ${you.refusal}`}`;
}

function describe(asked: AskedService): string {
  const told = asked.status;
  if (told === undefined) return `${whose(asked.scope)} service: ${sentenceOf(asked)}`;
  const { session, processes, you } = told;
  const idle = told.idleTimeout === null ? "" : `, given back after ${told.idleTimeout} without a program`;
  return [
    `${whose(asked.scope)} service: ${told.state}: ${told.sentence}`,
    `  for ${told.allowed}; ${told.hold === "always" ? "held always" : `on demand${idle}`} (${told.configuration})`,
    ...(session === null
      ? []
      : [
          `  ${session.gpus.map(({ name, memoryTotalBytes, memoryLimitBytes }) => `${name}, ${formatBytes(memoryLimitBytes ?? memoryTotalBytes)}`).join("; ")}`,
        ]),
    `  ${counted(processes.length, "program")}${processes.length === 0 ? "" : `: ${processes.map(({ pid, program, uid }) => `${program} (pid ${pid}, user ${uid})`).join(", ")}`}; ${told.waiting} waiting`,
    ...(you.refusal === null ? [] : [`  not for you: ${you.refusal}`]),
  ].join("\n");
}
