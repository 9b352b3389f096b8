import { FarpoolError } from "@farpool/contract";
import { expect, test } from "vitest";
import { COMMANDS } from "../commands/index.ts";
import { execute } from "./parse.ts";

async function refusal(words: readonly string[]): Promise<string> {
  try {
    return `exit code ${await execute(COMMANDS, words)}`;
  } catch (error) {
    if (!(error instanceof FarpoolError) || error.exitCode !== 64) throw error;
    return `${error.message} | ${error.hint ?? ""}`;
  }
}

test.each([
  [["gpus", "extra"], "'gpus' takes no arguments, not 'extra' | 'farpool --help' lists commands and options"],
  [["sessions", "lst"], "unknown command 'sessions lst' | did you mean 'farpool sessions list'?"],
  [["sessions", "frob"], "unknown command 'sessions frob' | 'farpool sessions --help' lists its commands"],
  [
    ["admin", "clients", "revok", "x"],
    "unknown command 'admin clients revok' | did you mean 'farpool admin clients revoke'?",
  ],
  [["sessions", "--jsn"], "unknown option '--jsn' | did you mean --json?"],
  [
    ["sessions", "list", "--frob"],
    "unknown option '--frob' | 'farpool sessions list --help' lists its options",
  ],
  [
    ["sessions", "show"],
    "missing required argument 'session' | 'farpool sessions show --help' lists its options",
  ],
  [["run", "-n"], "-n, --num-gpus needs a value: <count> | 'farpool run --help' lists its options"],
  [
    ["-n", "1", "--", "true"],
    "unknown option '-n' | options follow their command: farpool run -n 1 -- PROGRAM",
  ],
  [["runn"], "unknown command 'runn' | did you mean run?"],
  [
    ["run", "--wait", "soon", "--", "true"],
    "--wait: 'soon' is not a duration | durations look like 30s, 10m, 1h30m; a bare number is seconds",
  ],
  [
    ["run", "--wait", "400d", "--", "true"],
    "--wait takes 365 days at most, not '400d' | without --wait a session waits as long as it takes",
  ],
  [
    ["run", "--name", "a\nb\u001B[31m", "--", "true"],
    "--name takes 1 to 64 letters, digits, spaces or ._@-, not 'a?b?[31m' | ",
  ],
  [
    ["run", "--summary", "/nonexistent/x", "--", "true"],
    "--summary cannot be written to '/nonexistent/x' (ENOENT) | name a file in a folder that exists and that you may write to",
  ],
  [
    ["up", "--advertise", "a:1", "--advertise", "nowhere"],
    "--advertise takes HOST:PORT, not 'nowhere' | --advertise gpu-01.example.org:7445, or [2001:db8::1]:7445",
  ],
  [
    ["up", "--grace", "0.5s"],
    "--grace takes from 1 s to 24 hours, not '0.5s' | a client that is without a connection for so long loses its work",
  ],
  [
    ["up", "--label", "Zone"],
    "--label takes NAME=VALUE, not 'Zone' | --label zone=b; a name has small letters, digits and ._/- and begins with a letter",
  ],
  [
    ["usage", "--by", "team"],
    "--by is one of user, client, project, server, gpu, model, session, program, process, day, month, not 'team' | ",
  ],
  [
    ["usage", "--from", "yesterday"],
    "--from takes a day or a month, not 'yesterday' | --from 2026-11-30, or --from 2026-11",
  ],
  [["usage", "--csv", "--json"], "--csv, --focus and --json cannot be given together | "],
  [["admin", "budgets", "set", "team", "a", "5"], "a budget's kind is one of project, user, not 'team' | "],
  [
    ["admin", "prices", "set", "1.23456"],
    "a price is an amount with up to four decimals, not '1.23456' | amounts look like 2, 2.50 or 0.0125; the currency is the pool's",
  ],
])("%j", async (words, says) => {
  expect(await refusal(words)).toBe(says);
});
