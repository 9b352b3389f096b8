import { readFileSync } from "node:fs";
import { join } from "node:path";
import { runOrFail } from "../process.ts";
import { root } from "../repository.ts";

/** Somebody else's code: part of what we ship, or a tool that builds and tests it. */
export interface Component {
  readonly ecosystem: "crate" | "npm";
  readonly name: string;
  readonly version: string;
  readonly licence: string;
  readonly isShipped: boolean;
}

interface CargoPackage {
  readonly id: string;
  readonly name: string;
  readonly version: string;
  readonly license: string | null;
  readonly source: string | null;
}

interface CargoNode {
  readonly id: string;
  readonly deps: readonly {
    readonly pkg: string;
    readonly dep_kinds: readonly { readonly kind: string | null }[];
  }[];
}

/** The crates of Cargo.lock for our platform. Shipped: reached without a development dependency. */
export async function crates(): Promise<readonly Component[]> {
  const metadata = await runOrFail({
    command: "cargo",
    arguments: ["metadata", "--format-version=1", "--filter-platform", "x86_64-unknown-linux-gnu"],
    log: "licences-crates",
  });
  const { packages, workspace_members, resolve } = JSON.parse(metadata.stdout) as {
    packages: CargoPackage[];
    workspace_members: string[];
    resolve: { nodes: CargoNode[] };
  };
  const nodes = new Map(resolve.nodes.map((node) => [node.id, node]));
  const shipped = new Set<string>();
  const open = [...workspace_members];
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    if (shipped.has(id)) continue;
    shipped.add(id);
    const wanted =
      nodes.get(id)?.deps.filter((dep) => dep.dep_kinds.some(({ kind }) => kind !== "dev")) ?? [];
    open.push(...wanted.map((dep) => dep.pkg));
  }
  return packages
    .filter((entry) => entry.source !== null)
    .map((entry) => ({
      ecosystem: "crate",
      name: entry.name,
      version: entry.version,
      licence: entry.license ?? "",
      isShipped: shipped.has(entry.id),
    }));
}

interface LockEntry {
  readonly version?: string;
  readonly license?: string;
  readonly dev?: boolean;
  readonly devOptional?: boolean;
  readonly link?: boolean;
}

/** The packages of package-lock.json, for all platforms: the lock file is the same everywhere. */
export function npmPackages(): readonly Component[] {
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, LockEntry>;
  };
  const found = new Map<string, Component>();
  for (const [path, entry] of Object.entries(lock.packages)) {
    const name = path.split("node_modules/").at(-1) ?? "";
    if (!path.includes("node_modules/") || entry.link === true || entry.version === undefined) continue;
    const isShipped = entry.dev !== true && entry.devOptional !== true;
    const key = `${name}@${entry.version}`;
    if (found.get(key)?.isShipped === true) continue;
    found.set(key, {
      ecosystem: "npm",
      name,
      version: entry.version,
      licence: entry.license ?? "",
      isShipped,
    });
  }
  return [...found.values()];
}
