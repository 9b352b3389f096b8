import { setUp } from "./build/everything.ts";
import { main, write } from "./progress.ts";
import { toolCache } from "./repository.ts";

await main(async () => {
  await setUp();
  write(`everything that Farpool is built with is there; downloaded tools are in ${toolCache}`);
});
