import { COMMAND_NAME } from "@farpool/contract";
import type { Candidates } from "../core/command.ts";
import { withChildren, type CommandView } from "./commands.ts";

/**
 * The completion of bash. What the definitions know is in the script, so that no program is started at a press of
 * the Tab key; only lists of the pool are asked.
 */
export function bashCompletion(root: CommandView): string {
  const views = withChildren(root);
  return `# bash completion of ${COMMAND_NAME}; written by '${COMMAND_NAME} completion bash'

# Tells of a command: its commands, its options, those that take the next word, and what its arguments are.
_farpool_command() {
    commands='' options='' valued='' arguments='' rest=''
    case "$1" in
${views.map(commandCase).join("\n")}
        *) return 1 ;;
    esac
}

# What the value of an option can be.
_farpool_value() {
    case "$1 $2" in
${views.flatMap(valueCases).join("\n")}
        *) kind='' ;;
    esac
}

_farpool_reply() {
    local current=$2 line
    COMPREPLY=()
    case "$1" in
        =*) mapfile -t COMPREPLY < <(compgen -W "\${1#=}" -- "$current") ;;
        file) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
        folder) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
        program) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -c -f -- "$current" | sort -u) ;;
        ask:*)
            while IFS=$'\\t' read -r line _; do
                [[ $line == "$current"* ]] && COMPREPLY+=("$line")
            done < <("\${COMP_WORDS[0]}" internal candidates "\${1#ask:}" 2>/dev/null)
            ;;
    esac
}

_farpool() {
    local commands options valued arguments rest kind
    local current=\${COMP_WORDS[COMP_CWORD]} path=${COMMAND_NAME} index=1 word is_after_dashes=
    _farpool_command "$path"
    while ((index < COMP_CWORD)); do
        word=\${COMP_WORDS[index]}
        if [[ $word == -- ]]; then
            is_after_dashes=1
            ((index += 1))
            break
        elif [[ $word == -* ]]; then
            # bash makes three words of --name=value.
            if [[ \${COMP_WORDS[index + 1]} == = ]]; then
                ((index + 1 == COMP_CWORD || index + 2 == COMP_CWORD)) && {
                    [[ $current == = ]] && current=
                    _farpool_value "$path" "$word"
                    _farpool_reply "$kind" "$current"
                    return
                }
                ((index += 2))
            elif [[ " $valued " == *" $word "* ]]; then
                if ((index + 1 == COMP_CWORD)); then
                    _farpool_value "$path" "$word"
                    _farpool_reply "$kind" "$current"
                    return
                fi
                ((index += 1))
            fi
        elif [[ " $commands " == *" $word "* ]]; then
            path+=" $word"
            _farpool_command "$path"
        else
            break
        fi
        ((index += 1))
    done
    if [[ -n $rest && ( -n $is_after_dashes || $index -lt $COMP_CWORD ) ]]; then
        # The rest of the line is another program's.
        if ((index < COMP_CWORD)) && declare -F _command_offset >/dev/null; then
            _command_offset "$index"
        elif ((index < COMP_CWORD)); then
            _farpool_reply file "$current"
        else
            _farpool_reply program "$current"
        fi
        return
    fi
    if [[ $current == -* && -z $is_after_dashes ]]; then
        _farpool_reply "=$options" "$current"
    elif [[ -n $commands ]]; then
        _farpool_reply "=$commands" "$current"
    else
        _farpool_reply "$arguments" "$current"
    fi
}

complete -F _farpool ${COMMAND_NAME}
`;
}

function commandCase(view: CommandView): string {
  const fields = [
    ["commands", view.commands.map(({ path }) => path.at(-1) ?? "").join(" ")],
    ["options", view.options.flatMap(({ names }) => names).join(" ")],
    ["valued", view.options.flatMap(({ names, value }) => (value === "required" ? names : [])).join(" ")],
    ["arguments", kindOf(view.candidates)],
    ["rest", view.passThrough ? "1" : ""],
  ].filter(([, words]) => words !== "");
  const set = fields.map(([name, words]) => `            ${name}=${quoted(words ?? "")}`).join("\n");
  return `        ${quoted(view.path.join(" "))})\n${set}\n            ;;`;
}

function valueCases(view: CommandView): string[] {
  return view.options.flatMap(({ names, candidates }) => {
    const kind = kindOf(candidates);
    if (kind === "") return [];
    const patterns = names.map((name) => quoted(`${view.path.join(" ")} ${name}`)).join(" | ");
    return [`        ${patterns}) kind=${quoted(kind)} ;;`];
  });
}

function kindOf(candidates: Candidates): string {
  if (typeof candidates !== "string") return candidates.length === 0 ? "" : `=${candidates.join(" ")}`;
  switch (candidates) {
    case "file":
    case "folder":
    case "program":
      return candidates;
    case "sessions":
    case "servers":
    case "gpus":
    case "clients":
      return `ask:${candidates}`;
  }
}

const quoted = (words: string): string => `'${words.replaceAll("'", String.raw`'\''`)}'`;
