export * from "./descriptor.ts";
export * from "./listening.ts";
export * from "./passing.ts";
export * from "./processes.ts";
export * from "./service-manager.ts";
