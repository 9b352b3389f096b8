export * from "./keys.ts";
export * from "./routing.ts";
