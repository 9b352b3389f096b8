export * from "./address.ts";
export * from "./client.ts";
