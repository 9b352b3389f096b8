import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { startProgram, temporaryFolder } from "@farpool/testkit";
import { expect, test } from "vitest";
import { COMMANDS } from "../commands/index.ts";
import { viewCommand, withChildren } from "./commands.ts";
import { manualPages } from "./man.ts";
import { referencePages } from "./pages.ts";
import { writeShare } from "./share.ts";

const DOCS = fileURLToPath(new URL("../../../../docs/reference", import.meta.url));
const views = withChildren(viewCommand(COMMANDS));

test.each([...referencePages(COMMANDS)])(
  "docs/reference/%s is what the code says: 'npm run reference' writes it",
  (name, text) => {
    expect(readFileSync(join(DOCS, name), "utf8")).toBe(text);
  },
);

/** What only changes something, and says so in a sentence. */
const CHANGES = [
  ...["set", "add", "remove", "passwd", "disable", "enable", "map", "unmap"],
  ...["install", "uninstall", "start", "stop", "restart"],
];

test.each(views.filter(({ path }) => path.length > 1))(
  "$path says what it is and does in the house's form",
  ({ summary, options, examples }) => {
    expect(summary).toMatch(/^\S.*[^.]$/);
    for (const { description } of options) expect(description).toMatch(/^\S.*[^.]$/);
    for (const { line } of examples) expect(line).toContain("farpool ");
    const names = options.flatMap((option) => option.names);
    expect(new Set(names).size).toBe(names.length);
  },
);

/** What runs other programs, starts something or prints a script: no data of its own. */
const WITHOUT_DATA = [
  "run",
  "shell",
  "up",
  "down",
  "server",
  "completion",
  "attach",
  "env",
  "join",
  "leave",
  "login",
  "logout",
];

/** Of the client service: lines of a log, of a shell, of a file for containers. */
const PRINTED = ["logs", "env", "cdi"];

test.each(views.filter(({ path }) => path.length > 1))(
  "$path prints JSON, too, if it prints data",
  (view) => {
    const isGroup = view.usage.endsWith(" COMMAND");
    if (isGroup || WITHOUT_DATA.includes(view.path[1] ?? "")) return;
    if (CHANGES.includes(view.path.at(-1) ?? "")) return;
    if (view.path[1] === "service" && PRINTED.includes(view.path[2] ?? "")) return;
    // Its data are JSON in any case.
    if (view.path.join(" ") === "farpool admin users export") return;
    // Lines for a shell, and a file that others read.
    if (["farpool service env", "farpool service cdi"].includes(view.path.join(" "))) return;
    expect(view.options.flatMap(({ names }) => names)).toContain("--json");
  },
);

test.each([...manualPages(viewCommand(COMMANDS))])(
  "mandoc has nothing to say about %s",
  async (name, text) => {
    using folder = temporaryFolder();
    writeShare(COMMANDS, folder.path);
    const file = join(folder.path, "man/man1", name);
    expect(readFileSync(file, "utf8")).toBe(text);
    const lint = startProgram(["mandoc", "-Tlint", "-W", "warning", file], { PATH: process.env["PATH"] });
    expect(await lint.ended).toMatchObject({ status: 0, stdout: "", stderr: "" });
  },
);

test("every command has its manual page", () => {
  using folder = temporaryFolder();
  writeShare(COMMANDS, folder.path);
  const wanted = [
    "farpool.1",
    ...views.filter(({ path }) => path.length === 2).map(({ path }) => `${path.join("-")}.1`),
  ];
  expect(readdirSync(join(folder.path, "man/man1")).toSorted()).toEqual(wanted.toSorted());
});
