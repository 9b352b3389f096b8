import { usageDaySchema, usageKeys, FarpoolError } from "@farpool/contract";
import { defineCommand, flag, value } from "../core/command.ts";
import { oneOf } from "../core/parse-values.ts";
import { jsonOption } from "./pool.ts";

function day(name: string): (text: string) => string {
  return (text) => {
    if (usageDaySchema.safeParse(text).success) return text;
    throw new FarpoolError("FARPOOL_USAGE", `${name} takes a day or a month, not '${text}'`, {
      hint: `${name} 2026-11-30, or ${name} 2026-11`,
    });
  };
}

export const usageCommand = defineCommand({
  name: "usage",
  summary: "who used what: GPU time held, charged and busy, and what it costs",
  options: {
    by: value(
      `--by <key>`,
      `what to sum by: ${usageKeys.join(", ")} (default: user)`,
      oneOf("--by", usageKeys),
    ),
    from: value("--from <day>", "the first day, or month (default: everything)", day("--from")),
    to: value("--to <day>", "the last day, or month, which belongs to it (default: up to now)", day("--to")),
    isCsv: flag("--csv", "print comma-separated values"),
    isFocus: flag("--focus", "print every record, as CSV with the columns of FOCUS 1.2"),
    ...jsonOption,
  },
  examples: [
    { line: "farpool usage --by project --from 2026-11 --to 2026-11", does: "a month, by projects" },
    {
      line: "farpool usage --from 2026-11 --to 2026-11 --focus > november.csv",
      does: "its records, for other tools",
    },
  ],
  details: "Days are those of the pool's time zone. Half of a GPU for two hours is one GPU hour.",
  run: async ({ options }) => (await import("../pool/usage.ts")).usage(options),
});
