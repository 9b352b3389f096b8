export * from "./amounts.ts";
export * from "./busy.ts";
export * from "./csv.ts";
export * from "./focus.ts";
export * from "./intervals.ts";
export * from "./prices.ts";
export * from "./records.ts";
export * from "./zones.ts";
