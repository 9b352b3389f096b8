import { COMMAND_NAME, PRODUCT_NAME, VERSION } from "@farpool/contract";
import { pageName, spoken, withChildren, type CommandView, type OptionView } from "./commands.ts";
import { ENVIRONMENT, EXIT_CODES, FILES, RELEASED, type Fact } from "./facts.ts";

/** Manual pages in section 1: one for the program, and one for each command right below it. */
export function manualPages(root: CommandView): ReadonlyMap<string, string> {
  return new Map([
    [`${COMMAND_NAME}.1`, programPage(root)],
    ...root.commands.map((view): [string, string] => [`${pageName(view)}.1`, commandPage(view, root)]),
  ]);
}

function programPage(root: CommandView): string {
  return [
    ...title(COMMAND_NAME, "a pool of GPUs over the network"),
    ".SH SYNOPSIS",
    `\\fB${COMMAND_NAME}\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR]...`,
    ".SH DESCRIPTION",
    fill(root.summary),
    ...(root.details === undefined ? [] : [".PP", fill(root.details)]),
    ".SH COMMANDS",
    ...root.commands.flatMap((view) => [
      ".TP",
      `\\fB${text(spoken(view))}\\fR`,
      `${capital(fill(view.summary))}; see`,
      `.BR ${text(pageName(view))} (1).`,
    ]),
    ".SH OPTIONS",
    ...root.options.flatMap(option),
    ...facts("EXIT STATUS", EXIT_CODES),
    ...facts("ENVIRONMENT", ENVIRONMENT),
    ...facts("FILES", FILES),
    "",
  ].join("\n");
}

function commandPage(view: CommandView, root: CommandView): string {
  const all = withChildren(view);
  const others = root.commands.filter((each) => each !== view);
  return [
    ...title(pageName(view), view.summary),
    ".SH SYNOPSIS",
    ...all.flatMap((each, index) => [...(index === 0 ? [] : [".br"]), synopsis(each)]),
    ".SH DESCRIPTION",
    `${capital(fill(view.summary))}.`,
    ...details(view),
    ".SH OPTIONS",
    ...view.options.flatMap(option),
    ...(all.length === 1 ? [] : [".SH COMMANDS"]),
    ...all
      .slice(1)
      .flatMap((each) => [
        `.SS ${text(spoken(each))}`,
        `${capital(fill(each.summary))}.`,
        ...details(each),
        ...each.options.filter(({ isCommon }) => !isCommon).flatMap(option),
        ...examples(each),
      ]),
    ...(view.examples.length === 0 ? [] : [".SH EXAMPLES", ...examples(view)]),
    ...facts("EXIT STATUS", EXIT_CODES),
    ".SH SEE ALSO",
    `.BR ${COMMAND_NAME} (1),`,
    ...others.map(
      (each, index) => `.BR ${text(pageName(each))} (1)${index === others.length - 1 ? "" : ","}`,
    ),
    "",
  ].join("\n");
}

function title(name: string, summary: string): string[] {
  return [
    `.\\" Written by '${COMMAND_NAME} internal share' from the definitions of the commands.`,
    `.TH ${name.toUpperCase()} 1 "${RELEASED}" "${PRODUCT_NAME} ${VERSION}" "${PRODUCT_NAME}"`,
    // Without it a hyphen or an apostrophe in an example is not what a shell wants.
    ".nh",
    ".SH NAME",
    `${text(name)} \\- ${text(summary)}`,
  ];
}

function synopsis(view: CommandView): string {
  const words = view.path.map((word) => `\\fB${text(word)}\\fR`).join(" ");
  return `${words} ${text(view.usage.slice(view.path.join(" ").length + 1))}`.trimEnd();
}

function option({ flags, description }: OptionView): string[] {
  return [".TP", `\\fB${text(flags)}\\fR`, `${capital(fill(description))}.`];
}

function examples(view: CommandView): string[] {
  return view.examples.flatMap(({ line, does }) => [
    ".TP",
    `\\fB${text(line)}\\fR`,
    `${capital(fill(does))}.`,
  ]);
}

function details({ details: given }: CommandView): string[] {
  if (given === undefined) return [];
  return given.split("\n\n").flatMap((paragraph) => {
    const lines = paragraph.split("\n");
    if (!lines.every((line) => line.startsWith("  "))) return [".PP", fill(lines.join("\n"))];
    return [".PP", ".nf", ...lines.map((line) => text(line.slice(2))), ".fi"];
  });
}

function facts(heading: string, list: readonly Fact[]): string[] {
  return [
    `.SH ${heading}`,
    ...list.flatMap(({ name, meaning }) => [".TP", `\\fB${text(name)}\\fR`, `${capital(fill(meaning))}.`]),
  ];
}

const capital = (words: string): string =>
  /^[a-z][a-z]*[ ,]/.test(words) ? words.charAt(0).toUpperCase() + words.slice(1) : words;

/** Text that is to be read as it is: roff's own characters are taken from it. */
function text(words: string): string {
  return words
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll("'", "\\(aq")
    .replaceAll("`", "\\(ga")
    .replaceAll("^", "\\(ha")
    .replaceAll("~", "\\(ti")
    .replaceAll("≤", "\\(<=")
    .replaceAll("≥", "\\(>=")
    .replaceAll("…", "...")
    .replaceAll("×", "\\(mu")
    .replace(/^\./, "\\&.");
}

/** The same for lines that roff fills; a sentence's end is the end of a line. */
function fill(words: string): string {
  return words
    .split("\n")
    .map((line) => text(line.trim()))
    .join("\n");
}
