import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "@farpool/testkit";
import { expect, test } from "vitest";
import { findProgram, findProgramOrOurs } from "./program.ts";

function write(path: string, mode: number): string {
  writeFileSync(path, "#!/bin/sh\n");
  chmodSync(path, mode);
  return path;
}

test("the first executable of PATH is taken, one that may not be executed is passed over", () => {
  using folder = temporaryFolder();
  const [first, second] = [join(folder.path, "a"), join(folder.path, "b")];
  for (const each of [first, second]) mkdirSync(each);
  write(join(first, "tool"), 0o644);
  const tool = write(join(second, "tool"), 0o755);
  expect(findProgram("tool", `${first}:${second}`)).toBe(tool);
  expect(() => findProgram("tool", first)).toThrow(expect.objectContaining({ exitCode: 126 }));
});

test("what is not there is 127: no such name, no such path, a file where a folder should be", () => {
  using folder = temporaryFolder();
  const file = write(join(folder.path, "file"), 0o755);
  for (const name of ["nothing", "./nothing", `${file}/below`, ""]) {
    expect(() => findProgram(name, `${folder.path}:${file}`)).toThrow(
      expect.objectContaining({ exitCode: 127 }),
    );
  }
});

test("a folder is no program", () => {
  expect(() => findProgram("/tmp", "/bin")).toThrow(expect.objectContaining({ exitCode: 126 }));
});

test("a machine without nvidia-smi has ours, one with it its own, and nothing else is replaced", () => {
  using folder = temporaryFolder();
  const [ours, theirs] = [join(folder.path, "ours"), join(folder.path, "theirs")];
  for (const each of [ours, theirs]) mkdirSync(each);
  const own = write(join(ours, "nvidia-smi"), 0o755);
  expect(findProgramOrOurs("nvidia-smi", theirs, own)).toBe(own);
  const other = write(join(theirs, "nvidia-smi"), 0o755);
  expect(findProgramOrOurs("nvidia-smi", theirs, own)).toBe(other);
  for (const [name, tool] of [
    ["nvidia-settings", own],
    ["nvidia-smi", join(ours, "missing")],
  ] as const) {
    expect(() => findProgramOrOurs(name, "/nowhere", tool)).toThrow(
      expect.objectContaining({ exitCode: 127 }),
    );
  }
});
