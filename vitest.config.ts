import { defineConfig } from "vitest/config";

// One project per area of the time budget (scripts/test.ts). `e2e` needs the built programs in dist/.
export default defineConfig({
  test: {
    projects: [
      { test: { name: "unit", include: ["{api,bench,packages,scripts}/**/*.test.ts"], testTimeout: 20_000 } },
      {
        test: { name: "control", include: ["apps/**/*.test.ts"], testTimeout: 60_000, hookTimeout: 60_000 },
      },
      {
        test: {
          name: "e2e",
          include: ["tests/e2e/**/*.test.ts"],
          // The crash loop runs for as long as somebody asks for; a test that is skipped is no test that passed.
          exclude: process.env["FARPOOL_CRASH_MINUTES"] === undefined ? ["**/crashes.test.ts"] : [],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          // They wait more than they compute: two files at a time take little more than half of the time.
          maxWorkers: 2,
        },
      },
      {
        test: {
          name: "system",
          include: ["tests/system/**/*.test.ts"],
          testTimeout: 240_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
    ],
    exclude: ["**/node_modules/**", "dist/**", "target/**"],
  },
});
