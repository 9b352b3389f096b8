export type { CutKind, ProxyConnection } from "./cutting-proxy/connection.ts";
export * from "./cutting-proxy/proxy.ts";
