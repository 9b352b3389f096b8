/** One word for sh, whatever is in it. */
export function forShell(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** One word in a line of a unit: systemd splits at spaces, and expands percent signs. */
export function forUnit(text: string): string {
  const escaped = text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("%", "%%");
  return /[\s"']/.test(text) ? `"${escaped}"` : escaped;
}

/** The same in `ExecStart`, where variables are expanded, too. */
export function forExecStart(text: string): string {
  return forUnit(text).replaceAll("$", "$$$$");
}
