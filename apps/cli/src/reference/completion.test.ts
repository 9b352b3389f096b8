import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startProgram, waitFor } from "@farpool/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { COMMANDS } from "../commands/index.ts";
import { startTestPool, type TestPool } from "../testing/pool.ts";
import { writeShare } from "./share.ts";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
const ZSH_SCRIPT = fileURLToPath(new URL("../testing/completion.zsh", import.meta.url));

let pool: TestPool;
let share: string;
beforeAll(async () => {
  pool = await startTestPool();
  share = join(pool.folder, "share");
  writeShare(COMMANDS, share);
  const launcher = `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`;
  writeFileSync(join(pool.folder, "farpool"), launcher, { mode: 0o755 });
});
afterAll(async () => {
  await pool.stop();
});

async function inShell(words: readonly string[]): Promise<string> {
  const { stdout, stderr, status } = await startProgram(words, {
    PATH: `${pool.folder}:${process.env["PATH"]}`,
    HOME: pool.folder,
    TERM: "dumb",
    FARPOOL_STATE: join(pool.folder, "state"),
  }).ended;
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  return stdout;
}

const lines = (text: string): string[] =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");

/** bash is told where its words are as readline would, `=` being a word of its own. */
async function bash(line: string): Promise<string[]> {
  const script = `
    source "$1"
    read -ra COMP_WORDS <<< "\${2//=/ = }"
    [[ $2 == *[\\ =] ]] && COMP_WORDS+=("")
    COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
    compopt() { :; }
    _farpool
    printf '%s\\n' "\${COMPREPLY[@]}"`;
  const file = join(share, "bash-completion/completions/farpool");
  return lines(await inShell(["bash", "--norc", "-c", script, "bash", file, line]));
}

async function zsh(line: string): Promise<string[]> {
  const result = join(pool.folder, `zsh-${Math.random()}`);
  await inShell(["zsh", "-f", ZSH_SCRIPT, result, join(share, "zsh/site-functions"), line]);
  return lines(readFileSync(result, "utf8")).filter((each) => each !== "BEGIN" && each !== "END");
}

async function fish(line: string): Promise<string[]> {
  const file = join(share, "fish/vendor_completions.d/farpool.fish");
  const text = await inShell(["fish", "-c", "source $argv[1]; complete -C $argv[2]", file, line]);
  return lines(text).map((each) => each.split("\t")[0] ?? "");
}

const SHELLS = [
  ["bash", bash],
  ["zsh", zsh],
  ["fish", fish],
] as const;

test.each(SHELLS)(
  "%s completes commands, options, values and the words of other programs",
  async (_, complete) => {
    expect(await complete("farpool ses")).toEqual(["sessions"]);
    expect((await complete("farpool sessions ")).toSorted()).toEqual(
      expect.arrayContaining(["end", "list", "show"]),
    );
    expect(await complete("farpool sessions --ended 3 sh")).toEqual(["show"]);
    expect(await complete("farpool sessions list --end")).toEqual(["--ended"]);
    expect((await complete("farpool completion ")).toSorted()).toEqual(["bash", "fish", "zsh"]);
    expect((await complete("farpool up --driver /etc/hostn")).join()).toMatch(/hostname$/);
    expect(await complete("farpool run -n 1 -- mktem")).toEqual(["mktemp"]);
    expect(await complete("farpool internal ")).not.toContain("manager");
  },
);

test("bash completes a value that is tied to its option", async () => {
  expect(await bash("farpool up --driver=/etc/hostn")).toEqual(["/etc/hostname"]);
});

test.each(SHELLS)("%s asks the pool for its sessions", async (_, complete) => {
  const run = pool.start(["run", "-p", "0.1", "--", "sleep", "60"]);
  const session = await waitFor("the session", async () => {
    const { sessions } = await pool.client.call("listSessions", { query: {} });
    return sessions.find(({ client }) => client.pid === run.child.pid);
  });
  expect(await complete("farpool sessions show s-")).toContain(session.id);
  run.child.kill("SIGTERM");
  await run.ended;
});

test("without a pool there is nothing to choose, and no sentence in the line", async () => {
  const environment = { PATH: process.env["PATH"], FARPOOL_STATE: "/nonexistent" };
  const words = [process.execPath, MAIN, "internal", "candidates", "sessions"];
  expect(await startProgram(words, environment).ended).toEqual({ status: 69, stdout: "", stderr: "" });
});

test("a shell that is not known is refused with those that are", async () => {
  expect(await pool.farpool(["completion", "tcsh"])).toMatchObject({
    status: 64,
    stderr: "farpool: there is no completion for the shell 'tcsh'\nhint: shells are bash, zsh, fish\n",
  });
});
