import { join } from "node:path";
import { onTestFinished } from "vitest";
import { dist } from "../../../scripts/repository.ts";
import { start, waitFor } from "./program.ts";

export const probeProgram = join(dist, "bin", "farpool-probe");

/** A process that tries to get in, with a key of its own; it lives until the test ends. */
export interface Probe {
  readonly pid: number;
  /** Asks a broker as a program's libcuda does; its answer. */
  ask(broker: string): Promise<string>;
  /** Connects with what a broker answered, itself or somebody else: what comes of it, as a line. */
  connect(admission: string, how: "tls" | "unix" | "tls resume" | "unix resume"): Promise<string>;
}

export function startProbe(prefix: readonly string[] = [], program = probeProgram): Probe {
  const probe = start([...prefix, program], { keepInput: true });
  onTestFinished(async () => {
    probe.child.kill("SIGKILL");
    await probe.ended;
  });
  let read = 0;
  async function answer(asked: string, isWhole: (text: string) => boolean): Promise<string> {
    probe.child.stdin?.write(asked);
    const text = await waitFor(`the probe's answer to '${asked.trim()}'`, async () => {
      const now = probe.stdout().slice(read);
      if (isWhole(now)) return now;
      if (probe.child.exitCode === null && probe.child.signalCode === null) return undefined;
      throw new Error(`the probe ended: ${(await probe.ended).stderr}`);
    });
    read += text.length;
    return text;
  }
  return {
    pid: probe.pid,
    ask: (broker) => answer(`ask ${broker}\n`, (text) => text.endsWith("\n\n") || /^error .*\n$/.test(text)),
    connect: async (admission, how) => {
      const line = await answer(`admission\n${admission.trimEnd()}\n\n${how}\n`, (text) =>
        text.endsWith("\n"),
      );
      return line.trimEnd();
    },
  };
}

/** A broker's answer with another value in one of its lines. */
export function withLine(admission: string, name: string, value: string): string {
  return admission.replace(new RegExp(`^${name} .*$`, "m"), `${name} ${value}`);
}

export function lineOf(admission: string, name: string): string {
  const value = new RegExp(`^${name} (.*)$`, "m").exec(admission)?.[1];
  if (value === undefined) throw new Error(`there is no line '${name}' in:\n${admission}`);
  return value;
}
