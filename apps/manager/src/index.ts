export { managerMetricTable } from "./http/metrics.ts";
export { apiPages } from "./http/reference-page.ts";
export * from "./manager.ts";
export * from "./run-manager.ts";
