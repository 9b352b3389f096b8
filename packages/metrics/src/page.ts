import type { Registry } from "prom-client";

/** A table of our own metrics in a registry, for docs/reference/metrics.md. */
export function metricTable(registry: Registry): string {
  const rows = registry.getMetricsAsArray().flatMap((metric) => {
    const { name, help, type } = metric;
    if (!name.startsWith("farpool_")) return [];
    const labels = "labelNames" in metric && Array.isArray(metric.labelNames) ? metric.labelNames : [];
    const shown = labels.map((label) => `\`${String(label)}\``).join(", ");
    return [`| \`${name}\` | ${String(type)} | ${shown} | ${help} |`];
  });
  return ["| metric | type | labels | is |", "|---|---|---|---|", ...rows].join("\n");
}
