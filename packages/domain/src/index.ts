export * from "./capacity.ts";
export * from "./placement.ts";
export * from "./queue.ts";
export * from "./refusal.ts";
