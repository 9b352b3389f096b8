import { apiPages } from "@farpool/manager";
import type { CommandSpec } from "../core/command.ts";
import { viewCommand } from "./commands.ts";
import { errorsPage } from "./errors-page.ts";
import { metricsPage } from "./metrics-page.ts";
import { cliPage } from "./markdown.ts";

/** The pages of docs/reference that are written from code, by file name. */
export function referencePages(commands: CommandSpec): ReadonlyMap<string, string> {
  return new Map([
    ["cli.md", cliPage(viewCommand(commands))],
    ["errors.md", errorsPage()],
    ["metrics.md", metricsPage()],
    ...apiPages(),
  ]);
}
