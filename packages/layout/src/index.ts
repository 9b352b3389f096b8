export * from "./folders.ts";
export * from "./installation.ts";
export * from "./service.ts";
