export * from "./agent.ts";
export * from "./run-agent.ts";
export * from "./inventory.ts";
export { agentMetricTable } from "./metrics.ts";
