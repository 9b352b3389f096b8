import { createServer } from "node:http";
import { FarpoolError, VERSION } from "@farpool/contract";
import { collectDefaultMetrics, Gauge, Registry } from "prom-client";

/** A registry with what every process of ours tells of itself: its version, memory, CPU time, event loop. */
export function createRegistry(part: string): Registry {
  const registry = new Registry();
  registry.setDefaultLabels({ part });
  collectDefaultMetrics({ register: registry });
  new Gauge({
    name: "farpool_build_info",
    help: "1, with the version as a label",
    labelNames: ["version"],
    registers: [registry],
  }).set({ version: VERSION }, 1);
  return registry;
}

export interface MetricsSource {
  readonly registry: Registry;
  /** Brings figures up to date before each answer. */
  readonly refresh?: () => Promise<void>;
}

export interface MetricsServer {
  readonly port: number;
  close(): Promise<void>;
}

/**
 * `/metrics` for Prometheus, on a port of its own: it takes no token, so it is off unless somebody wants it, and it can
 * have another address than the API.
 */
export function serveMetrics(
  { registry, refresh }: MetricsSource,
  { host, port }: { readonly host: string; readonly port: number },
): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    const path = request.url?.split("?")[0];
    if (path !== "/metrics" || (request.method !== "GET" && request.method !== "HEAD")) {
      const type = { "content-type": "text/plain; charset=utf-8" };
      response.writeHead(404, type).end("the metrics are at /metrics\n");
      return;
    }
    text().then(
      (text) => response.writeHead(200, { "content-type": registry.contentType }).end(text),
      (error: unknown) => {
        const sentence = error instanceof Error ? error.message : String(error);
        // Prometheus counts it as a scrape that failed, which is what it is.
        response.writeHead(503, { "content-type": "text/plain; charset=utf-8" }).end(`${sentence}\n`);
      },
    );
  });
  async function text(): Promise<string> {
    await refresh?.();
    return registry.metrics();
  }
  server.requestTimeout = 10_000;
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EADDRINUSE") reject(error);
      else
        reject(
          new FarpoolError(
            "FARPOOL_CONFLICT",
            `the port ${port} of ${host} for metrics is taken by another program`,
            {
              hint: "--metrics-port chooses another port",
            },
          ),
        );
    });
    server.listen(port, host, () => {
      const address = server.address();
      resolve({
        port: typeof address === "object" && address !== null ? address.port : port,
        close: () =>
          new Promise((done) => {
            server.close(() => done());
            server.closeAllConnections();
          }),
      });
    });
  });
}
