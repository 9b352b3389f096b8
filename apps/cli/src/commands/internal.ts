import { defineCommand, type CommandSpec } from "../core/command.ts";
import { oneOf } from "../core/parse-values.ts";

/**
 * What is not for people. Of these the processes that `up` starts have one argument, JSON that `up` makes. Each exits when its work is over:
 * a timer or connection that is left (its database is gone, say) must not keep it from being started again.
 */
export const internalCommand: CommandSpec = defineCommand({
  name: "internal",
  summary: "what other parts of farpool call",
  hidden: true,
  commands: [
    defineCommand({
      name: "manager",
      summary: "the manager",
      arguments: "<settings>",
      run: async ({ arguments: [settings = ""] }) => {
        const { managerProcessSchema, runManager } = await import("@farpool/manager");
        process.exit(await runManager(managerProcessSchema.parse(JSON.parse(settings))));
      },
    }),
    defineCommand({
      name: "agent",
      summary: "the agent",
      arguments: "<settings>",
      run: async ({ arguments: [settings = ""] }) => {
        const { agentProcessSchema, runAgent } = await import("@farpool/agent");
        process.exit(await runAgent(agentProcessSchema.parse(JSON.parse(settings))));
      },
    }),
    defineCommand({
      name: "client-service",
      summary: "the client service of this machine, or of one person",
      arguments: "<scope>",
      run: async ({ arguments: [scope = ""] }) => {
        const { serviceScopes } = await import("@farpool/layout");
        const { clientService } = await import("../service/service.ts");
        process.exit(await clientService(oneOf("the scope", serviceScopes)(scope)));
      },
    }),
    defineCommand({
      name: "share",
      summary: "writes manual pages and completions below a folder, for the build",
      arguments: "<folder>",
      run: async ({ arguments: [folder = ""] }) => {
        const [{ writeShare }, { COMMANDS }] = await Promise.all([
          import("../reference/share.ts"),
          import("./index.ts"),
        ]);
        return writeShare(COMMANDS, folder);
      },
    }),
    defineCommand({
      name: "reference",
      summary: "writes the pages of docs/reference into a folder, for 'npm run reference'",
      arguments: "<folder>",
      run: async ({ arguments: [folder = ""] }) => {
        const [{ writeReference }, { COMMANDS }] = await Promise.all([
          import("../reference/share.ts"),
          import("./index.ts"),
        ]);
        return writeReference(COMMANDS, folder);
      },
    }),
    defineCommand({
      name: "candidates",
      summary: "names of the pool, for the completions",
      arguments: "<kind>",
      run: async ({ arguments: [kind = ""] }) =>
        (await import("../reference/candidates.ts")).candidates(kind),
    }),
  ],
});
