import { COMMAND_NAME } from "@farpool/contract";
import type { Candidates } from "../core/command.ts";
import { withChildren, type CommandView, type OptionView } from "./commands.ts";

/** The completion of zsh: a function for each command, which `_arguments` drives. */
export function zshCompletion(root: CommandView): string {
  return `#compdef ${COMMAND_NAME}
# zsh completion of ${COMMAND_NAME}; written by '${COMMAND_NAME} completion zsh'

${withChildren(root).map(commandFunction).join("\n\n")}

# A list of the pool: a line for each, what it is behind a tab.
_farpool_ask() {
    local -a found
    local line
    for line in "\${(@f)$(_call_program farpool-$1 "\${service:-${COMMAND_NAME}}" internal candidates $1 2>/dev/null)}"; do
        [[ -n $line ]] && found+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
    done
    _describe -t $1 $1 found
}

if [[ $funcstack[1] == _${COMMAND_NAME} ]]; then
    _${COMMAND_NAME} "$@"
else
    compdef _${COMMAND_NAME} ${COMMAND_NAME}
fi
`;
}

const functionName = (view: CommandView): string => `_${view.path.join("_").replaceAll("-", "_")}`;

function commandFunction(view: CommandView): string {
  const specs = view.options.flatMap(optionSpecs);
  if (view.commands.length > 0) return groupFunction(view, specs);
  const positional = argumentSpec(view);
  const lines = [...specs, ...(positional === undefined ? [] : [positional])];
  return `${functionName(view)}() {
    _arguments -s -S \\
        ${lines.join(" \\\n        ")}
}`;
}

function groupFunction(view: CommandView, specs: readonly string[]): string {
  const list = view.commands.map((each) => quoted(`${each.path.at(-1) ?? ""}:${each.summary}`));
  const calls = view.commands.map(
    (each) => `                ${each.path.at(-1) ?? ""}) ${functionName(each)} ;;`,
  );
  return `${functionName(view)}() {
    local curcontext=$curcontext state line
    # Not 'commands': zsh keeps the programs of PATH under that name.
    local -a below
    below=(
        ${list.join("\n        ")}
    )
    _arguments -C -s -S \\
        ${[...specs, "'1: :->command'", "'*:: :->rest'"].join(" \\\n        ")}
    case $state in
        command) _describe -t commands command below ;;
        rest)
            curcontext=\${curcontext%:*:*}:${view.path.join("-")}-$words[1]:
            case $words[1] in
${calls.join("\n")}
            esac
            ;;
    esac
}`;
}

function optionSpecs(option: OptionView): string[] {
  const { names, description, value, placeholder, candidates, isRepeatable } = option;
  const exclusive = isRepeatable ? "*" : `(${names.join(" ")})`;
  const label = placeholder.replaceAll(/[<>[\]]/g, "").replaceAll(":", "-");
  const action =
    value === "none" ? "" : `${value === "optional" ? "::" : ":"}${label}:${actionOf(candidates)}`;
  return names.map((name) => {
    const tie = value === "none" ? "" : tieOf(name, value);
    return quoted(`${exclusive}${name}${tie}[${escape(description)}]${action}`);
  });
}

/** How name and value are written: `--name value` or `--name=value`, an optional one only tied; `-n value` or `-nvalue`. */
function tieOf(name: string, value: "required" | "optional"): string {
  if (!name.startsWith("--")) return "+";
  return value === "optional" ? "=-" : "=";
}

function argumentSpec(view: CommandView): string | undefined {
  if (view.passThrough) return "'*:: : _normal -p $service'";
  if (view.arguments === undefined) return undefined;
  const label = view.arguments.replaceAll(/[<>[\].]/g, "");
  const many = view.arguments.includes("...") ? "*" : "1";
  return quoted(`${many}:${label}:${actionOf(view.candidates)}`);
}

function actionOf(candidates: Candidates): string {
  if (typeof candidates !== "string") return candidates.length === 0 ? "" : `(${candidates.join(" ")})`;
  switch (candidates) {
    case "file":
      return "_files";
    case "folder":
      return "_files -/";
    case "program":
      return "_command_names -e";
    case "sessions":
    case "servers":
    case "gpus":
    case "clients":
      // The space keeps zsh from putting arguments of its own before this one.
      return ` _farpool_ask ${candidates}`;
  }
}

const escape = (text: string): string => text.replaceAll(/[[\]:\\]/g, (found) => `\\${found}`);
const quoted = (words: string): string => `'${words.replaceAll("'", String.raw`'\''`)}'`;
