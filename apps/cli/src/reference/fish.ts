import { COMMAND_NAME } from "@farpool/contract";
import type { Candidates } from "../core/command.ts";
import { withChildren, type CommandView, type OptionView } from "./commands.ts";

/** The completion of fish. */
export function fishCompletion(root: CommandView): string {
  const views = withChildren(root);
  return `# fish completion of ${COMMAND_NAME}; written by '${COMMAND_NAME} completion fish'

# The command that the line has so far; behind it '+' when an argument of its own has been written.
function __farpool_path
    set -l path ${COMMAND_NAME}
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case '--'
                echo "$path +"
                return
            case '-*'
                contains -- "$path $word" $__farpool_valued; and set skip 1
                continue
        end
        if contains -- "$path $word" $__farpool_commands
            set path "$path $word"
        else
            echo "$path +"
            return
        end
    end
    echo $path
end

function __farpool_at
    test (__farpool_path) = "$argv"
end

# The line behind the words of ${COMMAND_NAME} itself: another program's.
function __farpool_program
    set -l words (commandline -opc)
    set -l at (math (count (string split ' ' -- "$argv")) + 1)
    set -l skip 0
    while test $at -le (count $words)
        set -l word $words[$at]
        if test $skip = 1
            set skip 0
        else if test "$word" = --
            set at (math $at + 1)
            break
        else if string match -q -- '-*' $word
            contains -- "$argv $word" $__farpool_valued; and set skip 1
        else
            break
        end
        set at (math $at + 1)
    end
    complete -C "$(string escape -- $words[$at..-1]) $(commandline -ct)"
end

function __farpool_ask
    set -l program (commandline -opc)[1]
    $program internal candidates $argv 2>/dev/null
end

set -g __farpool_commands ${views
    .slice(1)
    .map(({ path }) => quoted(path.join(" ")))
    .join(" ")}
set -g __farpool_valued ${views
    .flatMap((view) =>
      view.options.flatMap(({ names, value }) =>
        value === "required" ? names.map((name) => quoted(`${view.path.join(" ")} ${name}`)) : [],
      ),
    )
    .join(" ")}

complete -c ${COMMAND_NAME} -f
${views.flatMap(lines).join("\n")}
`;
}

function lines(view: CommandView): string[] {
  const at = condition(view.path.join(" "));
  return [
    ...view.commands.map(
      (each) =>
        `complete -c ${COMMAND_NAME} -n ${at} -a ${quoted(each.path.at(-1) ?? "")} -d ${quoted(each.summary)}`,
    ),
    ...view.options.map((option) => optionLine(option, at)),
    ...argumentLines(view),
  ];
}

const condition = (path: string): string => quoted(`__farpool_at ${path}`);

function optionLine({ names, description, value, candidates }: OptionView, at: string): string {
  const flags = names.map((name) => (name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`));
  // An optional value is written behind `=`: nothing else may be expected to follow.
  const takes = value === "required" ? ["-r", ...actionOf(candidates)] : [];
  return [`complete -c ${COMMAND_NAME} -n ${at}`, ...flags, ...takes, `-d ${quoted(description)}`].join(" ");
}

function argumentLines(view: CommandView): string[] {
  const path = view.path.join(" ");
  if (view.passThrough) {
    const program = `complete -c ${COMMAND_NAME} -n ${condition(path)} -a ${quoted("(__fish_complete_command)")}`;
    const rest = quoted(`(__farpool_program ${path})`);
    return [program, `complete -c ${COMMAND_NAME} -n ${condition(`${path} +`)} -a ${rest}`];
  }
  const action = actionOf(view.candidates);
  return action.length === 0
    ? []
    : [[`complete -c ${COMMAND_NAME} -n ${condition(path)}`, ...action].join(" ")];
}

function actionOf(candidates: Candidates): string[] {
  if (typeof candidates !== "string")
    return candidates.length === 0 ? [] : ["-a", quoted(candidates.join(" "))];
  switch (candidates) {
    case "file":
      return ["-F"];
    case "folder":
      return ["-a", quoted("(__fish_complete_directories)")];
    case "program":
      return ["-a", quoted("(__fish_complete_command)")];
    case "sessions":
    case "servers":
    case "gpus":
    case "clients":
      return ["-k", "-a", quoted(`(__farpool_ask ${candidates})`)];
  }
}

const quoted = (words: string): string => `'${words.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
