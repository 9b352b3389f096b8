import { parseArgs } from "node:util";
import { runBench } from "../bench/run.ts";
import { buildEverything } from "./build/everything.ts";
import { main } from "./progress.ts";

// npm run bench                       everything, to docs/results/
// npm run bench -- --smoke            whether everything runs; writes nothing
// npm run bench -- --rounds 21 --only "launch,bulk"
await main(async () => {
  const { values } = parseArgs({
    options: {
      smoke: { type: "boolean", default: false },
      built: { type: "boolean", default: false },
      rounds: { type: "string" },
      only: { type: "string" },
    },
  });
  if (!values.built) await buildEverything();
  await runBench({ isSmoke: values.smoke, rounds: values.rounds, only: values.only });
});
