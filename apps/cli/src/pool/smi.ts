import { FarpoolError, formatBytes, VERSION, type Gpu } from "@farpool/contract";
import { findInstallation } from "@farpool/layout";
import { counted, print, printJson } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";
import { runChild } from "../run/child.ts";
import { withShim } from "../run/environment.ts";

const WIDTH = 86;
const RULE = `+${"-".repeat(WIDTH - 2)}+`;

/** Our nvidia-smi, in the session that this process is in. */
export function smiOfSession(words: readonly string[]): Promise<number> {
  const { nvidiaSmi, shimFolder } = findInstallation();
  const mark = `FARPOOL_SESSION=${process.env["FARPOOL_SESSION"] ?? ""}#`;
  const environment = withShim(process.env, shimFolder);
  return runChild({ file: nvidiaSmi, name: "nvidia-smi", arguments: words, environment, mark });
}

export async function smi(isJson: boolean, words: readonly string[]): Promise<number> {
  if (words.length > 0)
    throw new FarpoolError(
      "FARPOOL_USAGE",
      `'${words.join(" ")}' are nvidia-smi's, for the GPUs of a session`,
      {
        hint: `farpool run -n 1 -- nvidia-smi ${words.join(" ")}`,
      },
    );
  const [{ gpus }, { servers }] = await withPool((client) =>
    Promise.all([client.call("listGpus", {}), client.call("listServers", {})]),
  );
  if (isJson) {
    printJson({ servers, gpus });
    return 0;
  }
  const sums = `${counted(servers.length, "server")}, ${counted(gpus.length, "GPU")}`;
  const lines = [RULE, row(`Farpool ${VERSION}`, sums), RULE];
  for (const server of servers) {
    lines.push(
      row(
        `${server.name} (${server.state})`,
        `driver ${server.driverVersion}${server.simulated ? ", simulated" : ""}`,
      ),
    );
    for (const gpu of gpus.filter((candidate) => candidate.serverId === server.id))
      lines.push(...gpuRows(gpu));
    lines.push(RULE);
  }
  print(lines.join("\n"));
  return 0;
}

function gpuRows(gpu: Gpu): string[] {
  const used = gpu.sessions.reduce((sum, session) => sum + session.memoryUsedBytes, 0);
  const shown = Math.max(used, gpu.memoryUsedBytes ?? 0);
  const lines = [
    row(
      `  ${gpu.index}  ${gpu.name}`,
      `${formatBytes(shown)} / ${formatBytes(gpu.memoryTotalBytes)}   ${gpu.wholeFree ? "free" : "in use"}`,
    ),
  ];
  for (const session of gpu.sessions) {
    const limit = session.memoryLimitBytes === null ? "whole" : formatBytes(session.memoryLimitBytes);
    const who = `${session.sessionId}${session.sessionName === null ? "" : ` (${session.sessionName})`}  ${session.user}@${session.host}  ${session.program ?? ""}`;
    lines.push(row(`       ${who}`, `${formatBytes(session.memoryUsedBytes)} / ${limit}`));
  }
  return lines;
}

function row(left: string, right: string): string {
  const room = WIDTH - 4 - right.length - 1;
  const shown = left.length > room ? `${left.slice(0, room - 1)}…` : left.padEnd(room);
  return `| ${shown} ${right} |`;
}
