import * as z from "zod";
import { FarpoolError } from "./errors.ts";

/**
 * How much of a GPU is wanted: all of it, a share of its memory (`-p`), or an amount (`-m`).
 * Everything that prints or reads a size uses this file, so there is one notation.
 */
export const sizeSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("whole") }),
  z.object({ kind: z.literal("share"), share: z.number().gt(0).lt(1) }),
  z.object({
    kind: z.literal("memory"),
    memoryMib: z
      .int()
      .min(1)
      .max(1 << 30),
  }),
]);
export type Size = z.output<typeof sizeSchema>;

export const WHOLE: Size = { kind: "whole" };
export const MIB = 1024 * 1024;

const UNIT_BYTES: Readonly<Record<string, number>> = {
  MIB: MIB,
  GIB: 1024 * MIB,
  TIB: 1024 * 1024 * MIB,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
};

/** The value of `-p`: 0 < p ≤ 1; 1 is a whole GPU. */
export function parseShare(text: string): Size {
  const share = /^(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : Number.NaN;
  if (!(share > 0 && share <= 1)) {
    throw new FarpoolError("FARPOOL_USAGE", `-p takes a share above 0 and up to 1, not '${text}'`, {
      hint: "-p 0.5 is half of a GPU's memory; -n sets how many GPUs",
    });
  }
  return share === 1 ? WHOLE : { kind: "share", share };
}

/** The value of `-m`: MiB when bare, else with MB, GB, TB, MiB, GiB or TiB. */
export function parseMemory(text: string): Size {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text);
  const unit = UNIT_BYTES[(match?.[2] === "" ? "MiB" : (match?.[2] ?? "?")).toUpperCase()];
  const memoryMib = unit === undefined ? Number.NaN : Math.floor((Number(match?.[1]) * unit) / MIB);
  if (!(memoryMib >= 1 && memoryMib <= 1 << 30)) {
    throw new FarpoolError("FARPOOL_USAGE", `-m takes an amount of memory from 1 MiB, not '${text}'`, {
      hint: "-m 4000 is 4000 MiB; units may be written: -m 4GiB, -m 4GB",
    });
  }
  return { kind: "memory", memoryMib };
}

const FRACTIONS: ReadonlyArray<readonly [number, string]> = [
  [1 / 2, "½"],
  [1 / 3, "⅓"],
  [2 / 3, "⅔"],
  [1 / 4, "¼"],
  [3 / 4, "¾"],
  [1 / 8, "⅛"],
  [3 / 8, "⅜"],
  [5 / 8, "⅝"],
  [7 / 8, "⅞"],
];

function formatShare(share: number): string {
  const fraction = FRACTIONS.find(([value]) => Math.abs(value - share) < 0.002);
  if (fraction !== undefined) return fraction[1];
  return share < 0.01 ? "<0.01" : share.toFixed(2);
}

/** `70 GiB`, `512 MiB`, `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const text = value >= 100 ? value.toFixed(0) : value.toFixed(1).replace(/\.0$/, "");
  return `${text} ${units[unit]}`;
}

/** One kind of GPU as part of a session: `limitBytes` is null for a whole GPU. */
export interface GpuPart {
  readonly name: string;
  readonly totalBytes: number;
  readonly limitBytes: number | null;
}

/** `1 × NVIDIA H200`, `½ × NVIDIA H200 (70 GiB)`, `2 × ¼ × NVIDIA H200 (35 GiB each)`. */
export function formatGpus(parts: readonly GpuPart[]): string {
  const groups = new Map<string, { part: GpuPart; count: number }>();
  for (const part of parts) {
    const key = `${part.name}/${part.totalBytes}/${part.limitBytes}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { part, count: 1 });
    else group.count += 1;
  }
  return [...groups.values()].map(({ part, count }) => formatGroup(part, count)).join(" + ");
}

function formatGroup({ name, totalBytes, limitBytes }: GpuPart, count: number): string {
  if (limitBytes === null) return `${count} × ${name}`;
  const slice = `${formatShare(limitBytes / totalBytes)} × ${name}`;
  return count === 1
    ? `${slice} (${formatBytes(limitBytes)})`
    : `${count} × ${slice} (${formatBytes(limitBytes)} each)`;
}

/** What was asked for, when no GPU is known yet: `2 GPUs`, `1 GPU with 4 GiB`, `½ of a GPU`. */
export function formatRequest(count: number, size: Size): string {
  const gpus = count === 1 ? "1 GPU" : `${count} GPUs`;
  switch (size.kind) {
    case "whole":
      return gpus;
    case "share":
      return count === 1
        ? `${formatShare(size.share)} of a GPU`
        : `${formatShare(size.share)} of each of ${gpus}`;
    case "memory":
      return `${gpus} with ${formatBytes(size.memoryMib * MIB)}${count === 1 ? "" : " each"}`;
  }
}
