import { createServer } from "node:net";
import { join } from "node:path";
import { temporaryFolder } from "@farpool/testkit";
import { expect, onTestFinished, test } from "vitest";
import { askService } from "./ask.ts";

async function serviceThatSays(answer: string): Promise<string> {
  const folder = temporaryFolder();
  const path = join(folder.path, "broker.sock");
  const server = createServer((socket) => socket.once("data", () => socket.end(answer)));
  await new Promise<void>((resolve) => {
    server.listen(path, resolve);
  });
  onTestFinished(() => {
    server.close();
    folder[Symbol.dispose]();
  });
  return path;
}

test("a service that ends under the question is named, and what to do", async () => {
  const path = await serviceThatSays("");

  await expect(askService(path, "status")).rejects.toMatchObject({
    code: "FARPOOL_UNAVAILABLE",
    message: `the service at ${path} gave no answer: it answered '', expected 'ok'`,
    hint: expect.stringContaining("again") as unknown,
  });
});

test("a refusal is told from a failure", async () => {
  const refusing = await serviceThatSays("error 77 CUDA_ERROR_NOT_PERMITTED not for you\n");
  const failing = await serviceThatSays("error 69 CUDA_ERROR_NO_DEVICE the disk is full\n");

  await expect(askService(refusing, "logs")).rejects.toMatchObject({ code: "FARPOOL_NOT_PERMITTED" });
  await expect(askService(failing, "logs")).rejects.toMatchObject({
    code: "FARPOOL_UNAVAILABLE",
    message: "the disk is full",
  });
});

test("nobody is there", async () => {
  using folder = temporaryFolder();

  expect(await askService(join(folder.path, "none.sock"), "status")).toBeUndefined();
});
