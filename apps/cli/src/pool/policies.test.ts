import { hostname, userInfo } from "node:os";
import { waitFor } from "@farpool/testkit";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { startTestPool, type TestPool } from "../testing/pool.ts";

let pool: TestPool;
beforeAll(async () => {
  pool = await startTestPool();
  // From its first session on the pool knows this client.
  await pool.farpool(["run", "--", "true"]);
});
afterAll(async () => {
  await pool.stop();
});
afterEach(async () => {
  const { policies } = await pool.client.call("listPolicies", {});
  for (const { scope } of policies) await pool.client.call("removePolicy", { body: { scope } });
});

const ME = `${userInfo().username}@${hostname()}`;
const policies = (...words: string[]) => pool.farpool(["admin", "policies", ...words]);
const run = (...words: string[]) => pool.farpool(["run", ...words, "--", "true"]);

async function set(...words: string[]): Promise<void> {
  expect(await policies("set", ...words)).toMatchObject({ status: 0, stderr: "" });
}

test("policies are set, listed and removed, field by field", async () => {
  expect((await policies()).stdout).toBe("no policies: everybody may have everything\n");
  await set("--pool", "--gpus", "4", "--idle-timeout", "1h", "--hard");
  await set("--client", hostname(), "--memory", "80GiB", "--servers", "zone=a,b", "--servers", "rack=7");
  await set("--user", ME, "--gpus", "unlimited", "--service-only", "no", "--wait", "0");
  const { stdout } = await policies("list");
  expect(stdout.replaceAll(/ {2,}/g, " | ")).toMatch(
    /^FOR | FIELD | VALUE | HARD\nuser \S+ | gpus | without limit | -\nuser \S+ | wait | 0\.0 s | -\n.*\nclient \S+ \(key \S{43}\) | memory | 80 GiB | -\nclient .* | servers | zone=a,b rack=7 | -\nthe pool | gpus | 4 | hard\nthe pool | idle-timeout | 1 h | hard\n$/,
  );
  expect(await policies("remove", "--pool", "gpus")).toMatchObject({
    status: 0,
    stderr: "'GPUs at once' of the pool is removed\n",
  });
  expect(await policies("remove", "--pool", "gpus")).toMatchObject({
    status: 64,
    stderr: expect.stringContaining("there is no 'GPUs at once' in the policy of the pool"),
  });
  expect(await policies("remove", "--user", ME)).toMatchObject({ status: 0 });
  const { policies: left } = JSON.parse((await policies("--json")).stdout);
  expect(left).toMatchObject([
    { scope: { kind: "client" } },
    { scope: { kind: "pool" }, fields: { idleTimeoutMs: { value: 3_600_000, hard: true } } },
  ]);
});

test("a refusal by a policy ends with 77 and names policy, asked, allowed, origin and who can change it", async () => {
  await set("--pool", "--gpus", "1", "--hard");
  await set("--user", ME, "--gpus", "2");
  expect(await run("-n", "2")).toEqual({
    status: 77,
    stdout: "",
    stderr: [
      "farpool: policy 'GPUs at once': asked for 2, allowed: 1 (policy of the pool, hard)",
      "hint: an administrator of the pool, with 'farpool admin policies set --pool --gpus …', can change it; 'farpool admin policies explain' shows all of them\n",
    ].join("\n"),
  });
  await set("--pool", "--max-duration", "1h", "--wait", "10m", "--idle-timeout", "5m");
  expect(await run("--max-duration", "2h")).toMatchObject({
    status: 77,
    stderr: expect.stringContaining(
      "policy 'maximum duration': asked for 2 h, allowed: 1 h (policy of the pool)",
    ),
  });
  expect(await run("--wait", "1h")).toMatchObject({
    status: 77,
    stderr: expect.stringContaining("policy 'longest wait': asked for 1 h, allowed: 10 min"),
  });
  expect((await run("--idle-timeout", "6m")).stderr).toContain(
    "policy 'idle timeout': asked for 6 min, allowed: 5 min",
  );
  expect((await run("--idle-timeout", "4m", "--max-duration", "1h", "--wait", "1m")).status).toBe(0);
  await set("--project", "apollo", "--sessions", "0");
  expect(await run("--project", "apollo")).toMatchObject({
    status: 77,
    stderr: expect.stringContaining(
      "policy 'sessions at once': asked for 1, allowed: 0 (policy of project apollo)",
    ),
  });
  const audit = await pool.farpool(["admin", "audit", "--last", "20"]);
  expect(audit.stdout).toMatch(/policy-refused .*run: policy 'sessions at once'/);
  expect(audit.stdout).toMatch(
    /policy-changed .*policy of project apollo: sessions at once 0, by an administrator/,
  );
});

test("explain prints every field with its origin, and what does not hold and why", async () => {
  const groups = (...words: string[]) => pool.farpool(["admin", "groups", ...words]);
  expect(await groups("add", "vision", ME, "dev2@ws-18")).toMatchObject({ status: 0 });
  expect((await groups()).stdout).toContain(`vision  dev2@ws-18 ${ME}`);
  await set("--pool", "--gpus", "4", "--hard");
  await set("--group", "vision", "--gpus", "8", "--max-duration", "8h");
  const { stdout } = await policies("explain", "--user", ME, "--client", hostname());
  expect(stdout).toContain(`user ${ME} (reported), in group vision, client ${hostname()} (key `);
  expect(stdout).toMatch(
    /^gpus +4 +policy of the pool, hard +an administrator of the pool, with 'farpool admin policies set --pool --gpus …'$/m,
  );
  expect(stdout).toMatch(/^max-duration +8 h +policy of group vision +an administrator/m);
  expect(stdout).toMatch(/^sessions +without limit +nobody has set it +an administrator/m);
  expect(stdout).toContain("gpus 8 of group vision does not hold: wider than a hard policy");
  expect(await groups("remove", "vision", "dev2@ws-18")).toMatchObject({
    status: 0,
    stderr: `group vision: ${ME}\n`,
  });
  expect(await groups("remove", "vision", "dev2@ws-18")).toMatchObject({ status: 64 });
  expect(await groups("remove", "vision")).toMatchObject({ status: 0 });
  expect((await policies("explain", "--user", ME)).stdout).toMatch(/^max-duration +without limit/m);
});

test("a client's specification holds for whoever has its key, and is shown", async () => {
  const clients = (...words: string[]) => pool.farpool(["admin", "clients", ...words]);
  expect(
    await clients("set", hostname(), "-n", "1", "-p", "0.5", "--idle-timeout", "30m", "--service-only"),
  ).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(
      /its service may have ½ of a GPU, held always\nservers: all\nidle timeout: 30 min\nother sessions: none, service only\n$/,
    ),
  });
  expect(await run()).toMatchObject({
    status: 77,
    stderr: expect.stringContaining(
      `policy 'service only': asked for a session that is not the client's service (run), allowed: its service's (service specification of client ${hostname()})`,
    ),
  });
  expect(await pool.farpool(["reserve"])).toMatchObject({ status: 77, stdout: "" });
  expect((await clients("show", hostname())).stdout).toContain("½ of a GPU");
  expect((await clients("set", hostname(), "--none")).stdout).toContain("no specification of its service");
  expect((await run()).status).toBe(0);
});

test.each([
  [["set", "--gpus", "4"], "a policy is for one user, group, client, project or the pool: nobody is named"],
  [["set", "--pool", "--user", "x", "--gpus", "4"], "2 are named"],
  [["set", "--pool"], "no field is named that is to be set"],
  [["set", "--pool", "--gpus", "many"], "--gpus takes a whole number from 0, not 'many'"],
  [["set", "--pool", "--memory", "lots"], "--memory takes an amount of memory or 'unlimited', not 'lots'"],
  [["set", "--pool", "--servers", "zone"], "--servers takes LABEL=VALUE[,VALUE…], not 'zone'"],
  [["set", "--pool", "--service-only", "maybe"], "--service-only takes yes or no, not 'maybe'"],
  [["set", "--client", "nobody", "--gpus", "1"], "there is no client 'nobody'"],
  [["set", "--group", "nobody", "--gpus", "1"], "there is no group 'nobody'"],
  [["remove", "--pool", "speed"], "there is no policy field 'speed'"],
])("farpool admin policies %j is refused with a sentence", async (words, sentence) => {
  const ended = await policies(...words);
  expect(ended).toMatchObject({ status: 64, stdout: "" });
  expect(ended.stderr).toContain(sentence);
});

test("a session's project, labels and times are shown", async () => {
  const held = pool.start([
    ...["run", "--project", "apollo", "--label", "experiment=7", "--label", "stage=a"],
    ...["--idle-timeout", "30m", "--max-duration", "8h", "--", "sleep", "68"],
  ]);
  const session = await waitFor("the session", async () => {
    const { sessions } = await pool.client.call("listSessions", { query: {} });
    return sessions.find(({ state }) => state === "active");
  });
  const { stdout } = await pool.farpool(["sessions", "show", session.id]);
  expect(stdout).toMatch(
    /^ends 8 h after its grant, at \S+\nends when idle for 30 min; last used never\nproject apollo\nlabels experiment=7 stage=a$/m,
  );
  held.child.kill("SIGTERM");
  await held.ended;
});
