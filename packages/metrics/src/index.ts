export * from "./page.ts";
export * from "./serve.ts";
