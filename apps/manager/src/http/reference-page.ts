import { openApiDocument } from "./openapi.ts";

/** docs/reference/openapi.json and docs/reference/api.md. */
export function apiPages(): ReadonlyArray<readonly [name: string, text: string]> {
  const document = openApiDocument();
  return [
    ["openapi.json", `${JSON.stringify(document, null, 2)}\n`],
    ["api.md", page(document)],
  ];
}

function page({ paths }: ReturnType<typeof openApiDocument>): string {
  const rows = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { summary, security }]) => {
      const token = security === undefined ? "" : " (no token)";
      return `| \`${method.toUpperCase()} ${path}\` | ${summary.replaceAll("|", "\\|")}${token} |`;
    }),
  );
  return `# The manager's API

Written by \`npm run reference\` from \`packages/contract/src/routes.ts\`. [openapi.json](openapi.json) is the whole description (OpenAPI 3.1);
a manager serves its own at \`/openapi.json\`, and at \`/docs\` as a page.

**Where.** On the pool's Unix socket (\`manager.sock\`, for the account that runs the pool) without a token, and over HTTP (port 7443) with
\`Authorization: Bearer TOKEN\`; the token is the content of \`api-token\` in the state folder.

**Requests.** Bodies are JSON, at most 64 KiB (16 MiB for agents). Fields that are not known are ignored.

**Answers.** 200 with JSON, or a failure: a code, a sentence and a hint ([errors.md](errors.md)). Fields are added with time, never taken away
or given another meaning under \`/v1\`. Every answer carries \`x-request-id\`, which the manager's log has, too; a request may bring its own.

**Long polls.** What has a \`revision\` in its query answers at once when there is something newer, else when there is, or with what there was
after \`timeoutMs\`.

| request | does |
|---|---|
${rows.join("\n")}
`;
}
