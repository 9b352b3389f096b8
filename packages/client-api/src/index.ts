export * from "./address.ts";
export * from "./authority.ts";
export * from "./client.ts";
export * from "./membership.ts";
export * from "./private-file.ts";
export * from "./renewal.ts";
