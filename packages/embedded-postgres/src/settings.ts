/** A control database: few connections, little memory, full durability, reachable over its socket only. */
export function serverSettings(
  socketFolder: string,
  overrides: Readonly<Record<string, string>> = {},
): readonly string[] {
  const settings: Readonly<Record<string, string>> = {
    listen_addresses: "",
    unix_socket_directories: socketFolder,
    unix_socket_permissions: "0700",
    max_connections: "40",
    shared_buffers: "16MB",
    wal_buffers: "1MB",
    max_wal_size: "128MB",
    min_wal_size: "32MB",
    work_mem: "2MB",
    maintenance_work_mem: "16MB",
    max_worker_processes: "2",
    max_parallel_workers: "0",
    max_parallel_workers_per_gather: "0",
    autovacuum_max_workers: "1",
    io_method: "sync",
    jit: "off",
    fsync: "on",
    synchronous_commit: "on",
    timezone: "UTC",
    log_timezone: "UTC",
    lc_messages: "C",
    password_encryption: "scram-sha-256",
    ...overrides,
  };
  return Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
}
