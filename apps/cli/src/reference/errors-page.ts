import { ERRORS } from "@farpool/contract";

/** docs/reference/errors.md: the table of the control plane's errors. */
export function errorsPage(): string {
  const rows = Object.entries(ERRORS).map(
    ([code, { httpStatus, exitCode, hint }]) =>
      `| \`${code}\` | ${httpStatus} | ${exitCode} | ${hint === null ? "says it with the sentence, or none" : hint.replaceAll("|", "\\|")} |`,
  );
  return `# Error codes

Written by \`npm run reference\` from \`packages/contract/src/errors.ts\`. Codes are never renamed. Over HTTP a failure is

\`\`\`json
{ "error": { "code": "FARPOOL_NOT_FOUND", "message": "there is no session s-7f3k2m9q", "hint": null } }
\`\`\`

with the status below; the command line prints \`farpool: MESSAGE\` and \`hint: HINT\` on stderr and ends with the exit code. What people
meet, with the sentences, is in [errors.md](../user/errors.md) of the user's guide.

| code | HTTP status | exit code | hint, unless the sentence brings its own |
|---|---|---|---|
${rows.join("\n")}
`;
}
