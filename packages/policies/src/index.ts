export * from "./describe.ts";
export * from "./judge.ts";
export * from "./labels.ts";
export * from "./resolve.ts";
export * from "./specification.ts";
