import { defineCommand, type CommandSpec } from "../core/command.ts";

export const completionCommand: CommandSpec = defineCommand({
  name: "completion",
  summary: "print what makes a shell complete commands, options and names of the pool",
  arguments: "<shell>",
  candidates: ["bash", "zsh", "fish"],
  examples: [
    { line: "source <(farpool completion bash)", does: "in ~/.bashrc" },
    { line: "source <(farpool completion zsh)", does: "in ~/.zshrc, behind compinit" },
    { line: "farpool completion fish | source", does: "in ~/.config/fish/config.fish" },
  ],
  details: "Packages install these files for all shells, and manual pages: man farpool, man farpool-run.",
  run: async ({ arguments: [shell = ""] }) => {
    const [{ completion }, { COMMANDS }] = await Promise.all([
      import("../reference/share.ts"),
      import("./index.ts"),
    ]);
    return completion(COMMANDS, shell);
  },
});
