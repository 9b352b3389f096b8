import { defineCommand } from "../core/command.ts";

/**
 * The processes that `up` starts; their one argument is JSON that `up` makes. Each exits when its work is over:
 * a timer or connection that is left (its database is gone, say) must not keep it from being started again.
 */
export const internalCommand = defineCommand({
  name: "internal",
  summary: "processes of a pool, started by 'farpool up'",
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
  ],
});
