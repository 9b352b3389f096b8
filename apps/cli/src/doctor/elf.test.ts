import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "@farpool/testkit";
import { expect, test } from "vitest";
import { inspectProgram } from "./elf.ts";

test("a dynamic program names its loader and its libraries", () => {
  expect(inspectProgram("/bin/sh")).toMatchObject({
    kind: "elf",
    is64Bit: true,
    machine: 62,
    loader: "/lib64/ld-linux-x86-64.so.2",
    needed: expect.arrayContaining(["libc.so.6"]),
    isPrivileged: false,
  });
});

test.each([
  ["#!/bin/sh\n", "/bin/sh"],
  ["#! /usr/bin/env python3\n", "python3"],
  ["#!/usr/bin/env -S FOO=1 node --flag\n", "node"],
])("the script %j is for %s", (text, interpreter) => {
  using folder = temporaryFolder();
  const path = join(folder.path, "script");
  writeFileSync(path, text);
  chmodSync(path, 0o755);
  expect(inspectProgram(path)).toEqual({ kind: "script", interpreter });
});

test("what is neither is told apart, also when it is cut short", () => {
  using folder = temporaryFolder();
  for (const text of ["", "hello", "\x7fELF\x02"]) {
    const path = join(folder.path, "file");
    writeFileSync(path, text, "latin1");
    expect(inspectProgram(path)).toEqual({ kind: "other" });
  }
});
