/**
 * What a program needs to use the session: where its broker is, and our libcuda.so.1 before any other.
 * An empty element of LD_LIBRARY_PATH would mean the current folder, so there never is one.
 */
export function sessionEnvironment(
  base: NodeJS.ProcessEnv,
  brokerPath: string,
  shimFolder: string,
): NodeJS.ProcessEnv {
  return { ...withShim(base, shimFolder), FARPOOL_SESSION: brokerPath };
}

export function withShim(base: NodeJS.ProcessEnv, shimFolder: string): NodeJS.ProcessEnv {
  const others = (base["LD_LIBRARY_PATH"] ?? "")
    .split(":")
    .filter((folder) => folder !== "" && folder !== shimFolder);
  return { ...base, LD_LIBRARY_PATH: [shimFolder, ...others].join(":") };
}
