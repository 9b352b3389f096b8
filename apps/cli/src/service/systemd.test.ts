import { expect, test } from "vitest";
import { jobOf } from "./systemd.ts";

test("the list of jobs tells a restart from a stop, and other units' jobs tell nothing", () => {
  const line = (type: string, unit = "farpool-client.service"): string => `  87 ${unit} ${type} running\n`;

  expect(jobOf(line("restart"))).toBe("restart");
  expect(jobOf(`${line("stop", "ssh.service")}${line("stop")}`)).toBe("stop");
  expect(jobOf(line("restart", "farpool-client.socket"))).toBeUndefined();
  expect(jobOf("")).toBeUndefined();
});
