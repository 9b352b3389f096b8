import { COMMON_VIEWS, spoken, withChildren, type CommandView, type OptionView } from "./commands.ts";
import { ENVIRONMENT, EXIT_CODES, FILES, type Fact } from "./facts.ts";

/** docs/reference/cli.md. */
export function cliPage(root: CommandView): string {
  const views = withChildren(root).slice(1);
  const parts = [
    "# The command line",
    "Written by `npm run reference` from the definitions in `apps/cli/src/commands`, as are `--help`, the manual pages and " +
      "the completions.",
    [
      "| command | does |",
      "|---|---|",
      ...views.map(
        (view) => `| [\`${view.path.join(" ")}\`](#${view.path.join("-")}) | ${escape(view.summary)} |`,
      ),
    ].join("\n"),
    "Every command takes these as well, unless it says something else of them:",
    optionTable(COMMON_VIEWS),
    ...views.flatMap(commandSection),
    ...factSection("Exit codes", "code", EXIT_CODES),
    ...factSection("Environment", "variable", ENVIRONMENT),
    ...factSection("Files", "file", FILES),
  ];
  return `${parts.join("\n\n")}\n`;
}

function commandSection(view: CommandView): string[] {
  const heading = "#".repeat(Math.min(view.path.length, 4));
  return [
    `${heading} ${view.path.join(" ")}`,
    `${capital(view.summary)}.`,
    `\`\`\`\n${view.usage}\n\`\`\``,
    optionTable(view.options.filter(({ isCommon }) => !isCommon)),
    ...(view.examples.length === 0 ? [] : [examples(view)]),
    ...(view.details === undefined ? [] : [paragraphs(view.details)]),
  ].filter((text) => text !== "");
}

function optionTable(options: readonly OptionView[]): string {
  if (options.length === 0) return "";
  const rows = options.map(({ flags, description }) => `| \`${flags}\` | ${escape(description)} |`);
  return ["| option | meaning |", "|---|---|", ...rows].join("\n");
}

function examples(view: CommandView): string {
  const lines = view.examples.map(({ line, does }) => `| \`${escape(line)}\` | ${escape(does)} |`);
  return [`| example of \`${spoken(view)}\` | does |`, "|---|---|", ...lines].join("\n");
}

/** Indented lines are code; all others may be filled. */
function paragraphs(details: string): string {
  return details
    .split("\n\n")
    .map((text) => {
      const lines = text.split("\n");
      return lines.every((line) => line.startsWith("  "))
        ? ["```", ...lines.map((line) => line.slice(2)), "```"].join("\n")
        : text.replaceAll("<", "\\<");
    })
    .join("\n\n");
}

function factSection(title: string, column: string, facts: readonly Fact[]): string[] {
  const rows = facts.map(({ name, meaning }) => `| \`${name}\` | ${escape(meaning)} |`);
  return [`## ${title}`, [`| ${column} | meaning |`, "|---|---|", ...rows].join("\n")];
}

const escape = (text: string): string => text.replaceAll("|", "\\|").replaceAll("<", "\\<");
const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
