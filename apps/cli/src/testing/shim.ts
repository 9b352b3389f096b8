import { connect, type Socket } from "node:net";

/** What the broker says to a shim. */
export function askBroker(path: string, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => socket.write(request));
    let answer = "";
    socket.on("data", (chunk) => {
      answer += chunk.toString();
    });
    socket.once("error", reject);
    socket.once("close", () => resolve(answer));
  });
}

/** Connects to the data socket as a shim does: the preface, then records. */
export async function connectAsShim(answer: string): Promise<Socket> {
  const field = (name: string): string => new RegExp(`^${name} (.*)$`, "m").exec(answer)?.[1] ?? "";
  const preface = Buffer.alloc(96);
  preface.write("FARPOOL1", 0);
  preface.writeUInt32LE(1, 8);
  preface.write(field("session"), 16);
  Buffer.from(field("connection"), "hex").copy(preface, 48);
  Buffer.from(field("token"), "hex").copy(preface, 64);
  const socket = connect(field("endpoint unix"));
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.once("connect", resolve);
  });
  socket.write(preface);
  return socket;
}
