export * from "./grants.ts";
export * from "./keys.ts";
export * from "./routing.ts";
