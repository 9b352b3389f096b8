export * from "./authority.ts";
export * from "./leaf.ts";
export * from "./machine.ts";
export * from "./manager.ts";
