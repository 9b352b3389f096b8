import { readFileSync } from "node:fs";
import {
  FarpoolError,
  filterTextSchema,
  formatDuration,
  holdModes,
  parseDurationMs,
  parseFilter,
  parseMemory,
  parseShare,
  projectNameSchema,
  type Size,
} from "@farpool/contract";
import { parse, stringify, YAMLParseError } from "yaml";
import * as z from "zod";
import { ACCOUNT_NAME } from "../core/parse-values.ts";

/** With a driver of its own a machine's GPUs can be there beside the pool's; who is asked first. */
export const localGpuModes = ["first", "pool-first", "off"] as const;
export const idleActions = ["keep", "end"] as const;

const accounts = z.array(z.string().regex(ACCOUNT_NAME, "this is no name of an account")).default([]);

const fileSchema = z.strictObject({
  gpus: z.int().min(1).max(100_000).optional(),
  share: z.number().gt(0).max(1).optional(),
  memory: z.union([z.string(), z.int()]).optional(),
  filters: z.array(filterTextSchema).max(32).default([]),
  project: projectNameSchema.optional(),
  hold: z.enum(holdModes).optional(),
  "idle-timeout": z.union([z.string(), z.number()]).optional(),
  "idle-action": z.enum(idleActions).default("keep"),
  "allow-users": accounts,
  "allow-groups": accounts,
  "local-gpu": z.enum(localGpuModes).default("pool-first"),
});
export type ServiceFile = z.input<typeof fileSchema>;

/** What this machine asks for; undefined is what the manager's specification says. */
export interface ServiceConfiguration {
  readonly count: number | undefined;
  readonly size: Size | undefined;
  readonly filters: readonly string[];
  readonly project: string | undefined;
  readonly hold: (typeof holdModes)[number] | undefined;
  /** Null: never. */
  readonly idleTimeoutMs: number | null | undefined;
  readonly idleAction: (typeof idleActions)[number];
  /** Both empty: everybody. */
  readonly allowUsers: readonly string[];
  readonly allowGroups: readonly string[];
  readonly localGpu: (typeof localGpuModes)[number];
}

export function readConfiguration(path: string): ServiceConfiguration {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new FarpoolError("FARPOOL_USAGE", `the service's file ${path} cannot be read (${code})`, {
      hint: "'farpool service install' writes it",
      cause,
    });
  }
  return parseConfiguration(text, path);
}

/** A mistake names the file and what is wrong in it: the service does not start with half of what was meant. */
export function parseConfiguration(text: string, path: string): ServiceConfiguration {
  const wrong = (why: string, cause?: unknown): FarpoolError =>
    new FarpoolError("FARPOOL_USAGE", `${path}: ${why}`, {
      hint: "docs/user/client-service.md lists every line; 'farpool service install' writes the file anew",
      cause,
    });
  let value: unknown;
  try {
    value = parse(text) ?? {};
  } catch (error) {
    throw wrong(
      error instanceof YAMLParseError ? (error.message.split("\n")[0] ?? "") : String(error),
      error,
    );
  }
  const parsed = fileSchema.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw wrong(issue === undefined ? "it is not understood" : mistakeOf(issue, value));
  }
  const file = parsed.data;
  if (file.share !== undefined && file.memory !== undefined)
    throw wrong("share and memory both say how large the GPUs are; one of them is enough");
  try {
    for (const filter of file.filters) parseFilter(filter);
    return {
      count: file.gpus,
      size: sizeOf(file),
      filters: file.filters,
      project: file.project,
      hold: file.hold,
      idleTimeoutMs: idleTimeoutOf(file["idle-timeout"]),
      idleAction: file["idle-action"],
      allowUsers: file["allow-users"],
      allowGroups: file["allow-groups"],
      localGpu: file["local-gpu"],
    };
  } catch (error) {
    if (error instanceof FarpoolError) throw wrong(error.message, error);
    throw error;
  }
}

/** `hold: Invalid option: expected one of "always"|"on-demand", not "perhaps"`. */
function mistakeOf({ path, message }: z.core.$ZodIssue, file: unknown): string {
  if (path.length === 0) return message;
  const given = path.reduce<unknown>(
    (value, key) =>
      typeof value === "object" && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined,
    file,
  );
  return `${path.join(".")}: ${message}, not ${JSON.stringify(given)}`;
}

export function formatConfiguration(file: ServiceFile): string {
  const head = [
    "# The client service of this machine: which GPUs of the pool its programs have. Written by 'farpool service install'.",
    "# It can only ask for less than an administrator allows in the manager ('farpool admin clients show').",
  ];
  return `${head.join("\n")}\n${stringify(file)}`;
}

function sizeOf({ share, memory }: z.output<typeof fileSchema>): Size | undefined {
  if (share !== undefined) return parseShare(String(share));
  return memory === undefined ? undefined : parseMemory(String(memory));
}

/** As it is read again, to the millisecond; 0: never. */
export function formatIdleTimeout(ms: number): string {
  if (ms === 0) return "never";
  const text = formatDuration(ms).replaceAll(" ", "");
  if (idleTimeoutOf(text) === ms) return text;
  return ms % 1_000 === 0 ? `${ms / 1_000}s` : `${ms}ms`;
}

function idleTimeoutOf(value: string | number | undefined): number | null | undefined {
  if (value === undefined) return undefined;
  if (value === "never" || value === 0 || value === "0") return null;
  return Math.max(1, Math.round(parseDurationMs(String(value), "idle-timeout")));
}
