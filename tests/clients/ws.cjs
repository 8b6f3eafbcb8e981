// Node's `ws`, as client and as app, and Node's own WebSocket where it has one, across a drain. See README.md.
const { WebSocket, WebSocketServer } = require("ws");
const { createHash, randomBytes } = require("node:crypto");
const { startEbb } = require("./ebb.cjs");

const CLIENTS = 20;
const digest = (data) => createHash("sha256").update(data).digest("hex");

async function main() {
  const atApp = [];
  const app = new WebSocketServer({ port: 0, host: "127.0.0.1", perMessageDeflate: { threshold: 0 } });
  app.on("connection", (socket) => {
    // The app talks all the time, a checksum behind each message; nothing is asked for.
    const talk = () => {
      if (socket.readyState !== WebSocket.OPEN) return;
      const data = randomBytes([1, 125, 126, 65535, 65536, 300000][Math.floor(Math.random() * 6)]);
      socket.send(data);
      socket.send(digest(data), () => setTimeout(talk, 2));
    };
    talk();
    socket.on("close", (code) => atApp.push(code));
    socket.on("error", (error) => atApp.push(error.message));
  });
  await new Promise((resolve) => app.on("listening", resolve));
  const ebb = await startEbb(app.address().port);

  const client = (Kind, binaryType) =>
    new Promise((resolve) => {
      const socket = new Kind(ebb.url.replace("http", "ws"));
      socket.binaryType = binaryType;
      let [last, whole, damaged] = [null, 0, 0];
      socket.onmessage = ({ data }) => {
        if (typeof data !== "string") last = Buffer.from(data);
        else if (digest(last) === data) whole += 1;
        else damaged += 1;
      };
      const { extensions } = socket;
      socket.onclose = ({ code, wasClean }) => resolve({ code, wasClean, whole, damaged, extensions });
      socket.onerror = ({ message }) => console.log("error:", message);
    });
  const kinds = [["ws", WebSocket, "nodebuffer"]];
  if (globalThis.WebSocket) kinds.push(["Node's own", globalThis.WebSocket, "arraybuffer"]);
  const all = kinds.map(([name, Kind, type]) => [
    name,
    Promise.all(Array.from({ length: CLIENTS }, () => client(Kind, type))),
  ]);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const report = await ebb.drain();
  let fine = report.outcome === "clean";
  for (const [name, clients] of all) {
    const seen = await clients;
    const count = (key) => seen.reduce((sum, client) => sum + client[key], 0);
    console.log(`${name}: ${count("whole")} messages whole, ${count("damaged")} damaged;`,
      "codes", JSON.stringify(seen.map(({ code }) => code)), "wasClean", seen.every(({ wasClean }) => wasClean));
    fine &&= seen.every(({ code, wasClean, damaged }) => code === 1001 && wasClean && !damaged);
  }
  console.log("codes at the app:", JSON.stringify(atApp));
  console.log(`report: ${report.outcome}, websocket`, JSON.stringify(report.connections.websocket));
  fine &&= atApp.every((code) => code === 1001);
  console.log(fine ? "as it should be" : "NOT as it should be");
  await ebb.stop();
  process.exit(fine ? 0 : 1);
}

main();
