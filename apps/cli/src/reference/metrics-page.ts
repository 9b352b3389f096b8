import { agentMetricTable } from "@farpool/agent";
import { managerMetricTable } from "@farpool/manager";

/** docs/reference/metrics.md. */
export function metricsPage(): string {
  return `# Metrics

Written by \`npm run reference\` from the metrics themselves. \`farpool up --metrics-port\` serves the manager's at
\`http://127.0.0.1:9445/metrics\` and the agent's on the next port, 9446, in the format of Prometheus; another number moves both. They are off by
default, take no token, and listen on the address of \`--listen\`. No label names a user, a program, a client or a session.

\`\`\`yaml
scrape_configs:
  - job_name: farpool
    static_configs:
      - targets: ["127.0.0.1:9445", "127.0.0.1:9446"]
\`\`\`

[farpool.json](../dashboards/farpool.json) is a dashboard for Grafana: import it and choose the Prometheus. Every metric has the label
\`part\` (\`manager\`, \`agent\`), and both tell of their own process (\`process_…\`, \`nodejs_…\`).

## Of a manager

Every manager of a pool tells the same of the pool, as it reads the pool's database at each scrape: take the maximum over managers, not the sum.
What has \`http\`, \`database\` or \`placement\` in its name is the manager's own.

${managerMetricTable()}

## Of an agent

${agentMetricTable()}

## Health and logs

\`GET /healthz\` answers 200 while the process does, \`GET /readyz\` while its database does, too; both need no token. Logs are JSON lines (one per
request that changes something or was refused, with the \`requestId\` that the answer has in \`x-request-id\`); \`FARPOOL_LOG_LEVEL=debug\` adds all others.
`;
}
