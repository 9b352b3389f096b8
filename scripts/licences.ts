import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "smol-toml";
import { type Component, crates, npmPackages } from "./licences/components.ts";
import { isAllowed } from "./licences/expression.ts";
import { main, write } from "./progress.ts";
import { root } from "./repository.ts";

// Licences that only tools may have: nothing of these programs becomes part of what we ship.
const allowedForTools = ["MPL-2.0", "CC0-1.0", "CC-BY-4.0", "Python-2.0", "Unlicense"];
const thirdParty = join(root, "THIRD-PARTY.md");

// node scripts/licences.ts            writes THIRD-PARTY.md
// node scripts/licences.ts --check    fails when it is out of date, or when a licence is not allowed
await main(async () => {
  const policy = parse(readFileSync(join(root, "deny.toml"), "utf8")) as { licenses: { allow: string[] } };
  const components = [...(await crates()), ...npmPackages()].toSorted(byName);
  for (const component of components) {
    const allowed = new Set([...policy.licenses.allow, ...(component.isShipped ? [] : allowedForTools)]);
    if (isAllowed(component.licence, allowed)) continue;
    const licence = component.licence === "" ? "states no licence" : `has the licence ${component.licence}`;
    write(
      `${component.ecosystem} ${component.name} ${component.version} ${licence}, which deny.toml does not allow`,
    );
    process.exitCode = 1;
  }
  const page = format(components.filter((component) => component.isShipped));
  if (!process.argv.includes("--check")) {
    writeFileSync(thirdParty, page);
  } else if (readFileSync(thirdParty, "utf8") !== page) {
    write("THIRD-PARTY.md is out of date\nhint: npm run licences");
    process.exitCode = 1;
  }
});

function byName(a: Component, b: Component): number {
  const key = ({ ecosystem, name, version }: Component): string => `${ecosystem} ${name} ${version}`;
  return key(a) < key(b) ? -1 : 1;
}

function format(shipped: readonly Component[]): string {
  const table = (ecosystem: Component["ecosystem"]): string =>
    shipped
      .filter((component) => component.ecosystem === ecosystem)
      .map(({ name, version, licence }) => `| ${name} | ${version} | ${licence} |`)
      .join("\n");
  return `# Third-party software

Written by \`npm run licences\` from Cargo.lock and package-lock.json; not edited by hand. It lists what becomes
part of Farpool's programs. Tools that only build and test them are not listed; CI checks their licences too.

The embedded database is PostgreSQL 18, under the PostgreSQL licence; the npm package below only carries its
binaries. The programs run on Node.js, under the MIT licence. The CUDA compiler and runtime library that build the
examples come from NVIDIA under the CUDA EULA, are downloaded by whoever builds them, and are not part of Farpool
(docs/legal.md).

## Crates

| crate | version | licence |
|---|---|---|
${table("crate")}

## npm packages

| package | version | licence |
|---|---|---|
${table("npm")}
`;
}
