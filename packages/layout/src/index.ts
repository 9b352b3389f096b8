export * from "./folders.ts";
export * from "./installation.ts";
