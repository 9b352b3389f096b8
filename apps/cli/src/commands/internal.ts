import { defineCommand } from "../core/command.ts";

/** The processes that `up` starts; their one argument is JSON that `up` makes. */
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
        return runManager(managerProcessSchema.parse(JSON.parse(settings)));
      },
    }),
    defineCommand({
      name: "agent",
      summary: "the agent",
      arguments: "<settings>",
      run: async ({ arguments: [settings = ""] }) => {
        const { agentProcessSchema, runAgent } = await import("@farpool/agent");
        return runAgent(agentProcessSchema.parse(JSON.parse(settings)));
      },
    }),
  ],
});
