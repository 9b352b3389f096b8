import { closeSync, fstatSync, openSync, readSync } from "node:fs";

/** What a program's file tells about how the loader will treat it. */
export type ProgramFile =
  | { readonly kind: "script"; readonly interpreter: string }
  | { readonly kind: "other" }
  | {
      readonly kind: "elf";
      readonly is64Bit: boolean;
      readonly machine: number;
      /** Undefined: statically linked. */
      readonly loader: string | undefined;
      readonly needed: readonly string[];
      readonly rpath: readonly string[];
      readonly runpath: readonly string[];
      readonly isPrivileged: boolean;
    };

export const MACHINE_X86_64 = 62;
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const DT = { needed: 1, strtab: 5, rpath: 15, runpath: 29 } as const;
const SET_ID_BITS = 0o6000;

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly size: number;
}

export function inspectProgram(path: string): ProgramFile {
  const descriptor = openSync(path, "r");
  try {
    const read = (offset: number, length: number): Buffer => {
      const bytes = Buffer.alloc(length);
      return bytes.subarray(0, readSync(descriptor, bytes, 0, length, offset));
    };
    const head = read(0, 256);
    if (head.subarray(0, 2).toString("latin1") === "#!") {
      const line = head.subarray(2).toString("utf8").split("\n")[0] ?? "";
      return { kind: "script", interpreter: interpreterOf(line.trim().split(/\s+/)) };
    }
    if (head.length < 64 || head.readUInt32BE(0) !== 0x7f454c46) return { kind: "other" };
    const isPrivileged = (fstatSync(descriptor).mode & SET_ID_BITS) !== 0;
    const machine = head.readUInt16LE(18);
    const base = { kind: "elf", machine, isPrivileged } as const;
    if (head[4] !== 2)
      return { ...base, is64Bit: false, loader: undefined, needed: [], rpath: [], runpath: [] };
    const segments = readSegments(head, read);
    const interpreter = segments.find(({ type }) => type === PT_INTERP);
    const loader =
      interpreter === undefined
        ? undefined
        : read(interpreter.offset, interpreter.size).toString("utf8").replace(/\0.*$/s, "");
    return { ...base, is64Bit: true, loader, ...readDynamic(segments, read) };
  } finally {
    closeSync(descriptor);
  }
}

/** `#!/usr/bin/env python3` names python3, not env. */
function interpreterOf(words: readonly string[]): string {
  if (!/(^|\/)env$/.test(words[0] ?? "")) return words[0] ?? "";
  return words.slice(1).find((word) => !word.startsWith("-") && !word.includes("=")) ?? "";
}

type Read = (offset: number, length: number) => Buffer;

function readSegments(head: Buffer, read: Read): Segment[] {
  const table = Number(head.readBigUInt64LE(32));
  const entrySize = head.readUInt16LE(54);
  const count = head.readUInt16LE(56);
  const bytes = read(table, entrySize * count);
  const segments: Segment[] = [];
  for (let at = 0; at + 56 <= bytes.length; at += entrySize) {
    segments.push({
      type: bytes.readUInt32LE(at),
      offset: Number(bytes.readBigUInt64LE(at + 8)),
      address: Number(bytes.readBigUInt64LE(at + 16)),
      size: Number(bytes.readBigUInt64LE(at + 32)),
    });
  }
  return segments;
}

function readDynamic(
  segments: readonly Segment[],
  read: Read,
): { needed: string[]; rpath: string[]; runpath: string[] } {
  const dynamic = segments.find(({ type }) => type === PT_DYNAMIC);
  const entries: Array<readonly [number, number]> = [];
  if (dynamic !== undefined) {
    const bytes = read(dynamic.offset, dynamic.size);
    for (let at = 0; at + 16 <= bytes.length; at += 16) {
      const tag = Number(bytes.readBigInt64LE(at));
      if (tag === 0) break;
      entries.push([tag, Number(bytes.readBigUInt64LE(at + 8))]);
    }
  }
  const strings = entries.find(([tag]) => tag === DT.strtab)?.[1];
  const text = (offset: number): string => {
    const segment = segments.find(
      ({ type, address, size }) =>
        type === PT_LOAD && strings !== undefined && strings >= address && strings < address + size,
    );
    if (segment === undefined || strings === undefined) return "";
    return (
      read(segment.offset + strings - segment.address + offset, 4_096)
        .toString("utf8")
        .split("\0")[0] ?? ""
    );
  };
  const all = (wanted: number): string[] =>
    entries.filter(([tag]) => tag === wanted).map(([, offset]) => text(offset));
  const folders = (wanted: number): string[] =>
    all(wanted).flatMap((list) => list.split(":").filter((folder) => folder !== ""));
  return { needed: all(DT.needed), rpath: folders(DT.rpath), runpath: folders(DT.runpath) };
}
