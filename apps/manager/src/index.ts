export * from "./manager.ts";
export * from "./run-manager.ts";
