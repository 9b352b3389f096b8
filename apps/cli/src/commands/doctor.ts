import { defineCommand } from "../core/command.ts";
import { jsonOption } from "./pool.ts";

export const doctorCommand = defineCommand({
  name: "doctor",
  summary: "check this machine and its client service; with a program, tell which libcuda it would load",
  arguments: "[program...]",
  candidates: "program",
  passThrough: true,
  options: jsonOption,
  details: "The exit code is 0 when no check failed, else 69.",
  run: async ({ options, arguments: words }) =>
    (await import("../doctor/doctor.ts")).doctor(options.isJson, words),
});
