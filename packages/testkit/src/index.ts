export * from "./cutting-proxy.ts";
export * from "./database.ts";
export * from "./folders.ts";
export * from "./installation.ts";
export * from "./wait.ts";
export * from "./program.ts";
