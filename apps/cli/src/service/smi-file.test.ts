import { expect, test } from "vitest";
import { smiFile } from "./smi-file.ts";

const reading =
  (files: Readonly<Record<string, string>>) =>
  (path: string): string | undefined =>
    files[path];

test("a machine without nvidia-smi gets ours, also again", () => {
  const made = smiFile("/opt/it's/nvidia-smi", reading({}));
  expect(made).toEqual({
    path: "/usr/local/bin/nvidia-smi",
    text: `#!/bin/sh\n# of farpool's client service\nexec '/opt/it'\\''s/nvidia-smi' "$@"\n`,
    mode: 0o755,
  });
  expect(smiFile("/opt/it's/nvidia-smi", reading({ "/usr/local/bin/nvidia-smi": made?.text ?? "" }))).toEqual(
    made,
  );
});

test.each(["/usr/bin/nvidia-smi", "/usr/local/bin/nvidia-smi"])("%s of somebody else's stays", (path) => {
  expect(smiFile("/opt/farpool/nvidia-smi", reading({ [path]: "\u007fELF" }))).toBeUndefined();
});
