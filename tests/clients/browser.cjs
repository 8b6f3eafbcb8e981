// Headless Chromium with a WebSocket and an EventSource on one page, across a drain and back; with `--tls` over HTTPS,
// where both are streams of one HTTP/2 connection. See README.md.
const { WebSocketServer } = require("ws");
const { spawn } = require("node:child_process");
const http = require("node:http");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { certificate, startEbb } = require("./ebb.cjs");

const TLS = process.argv.includes("--tls");

const PAGE = `<!doctype html><title>ebb</title><script>
  const tell = (what) => fetch("http://" + location.hash.slice(1) + "/seen", { method: "POST", mode: "no-cors", body: JSON.stringify(what) });
  const socket = new WebSocket(location.origin.replace("http", "ws") + "/socket");
  let messages = 0;
  socket.onopen = () => tell({ socket: "open", extensions: socket.extensions });
  socket.onmessage = () => messages++;
  socket.onclose = ({ code, reason, wasClean }) => tell({ socket: "closed", code, reason, wasClean, messages });
  const events = new EventSource("/events");
  let opened = 0;
  events.onopen = () => tell({ events: "open", times: ++opened });
  events.onerror = () => tell({ events: "ended", state: ["connecting", "open", "closed"][events.readyState] });
</script>`;

const seen = [];
let noticed = () => {};
const until = (what, wanted) =>
  new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`not seen: ${what}`)), 30000);
    noticed = () => seen.some(wanted) && (clearTimeout(late), resolve());
    noticed();
  });

const app = http.createServer((request, response) => {
  if (request.url === "/seen") {
    let text = "";
    request.on("data", (data) => (text += data));
    request.on("end", () => {
      console.log("the page:", text);
      seen.push(JSON.parse(text));
      response.end();
      noticed();
    });
  } else if (request.url === "/events") {
    const last = Number(request.headers["last-event-id"] ?? 0);
    if (last) {
      console.log("the app: EventSource is back, it has got event", last);
      seen.push({ events: "back", last });
    }
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("retry: 500\n\n");
    let id = last;
    const timer = setInterval(() => response.write(`id: ${++id}\ndata: tick\n\n`), 50);
    response.on("close", () => clearInterval(timer));
  } else if (request.url === "/") {
    response.writeHead(200, { "content-type": "text/html" });
    response.end(PAGE);
  } else {
    response.writeHead(404).end();
  }
});
const sockets = new WebSocketServer({ server: app, path: "/socket", perMessageDeflate: { threshold: 0 } });
sockets.on("connection", (socket) => {
  const timer = setInterval(() => socket.send("tick ".repeat(1000)), 10);
  socket.on("close", (code) => {
    clearInterval(timer);
    console.log("the app: close code", code);
    seen.push({ app: code });
  });
});

async function main() {
  await new Promise((resolve) => app.listen(0, "127.0.0.1", resolve));
  const port = app.address().port;
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "ebb-browser-"));
  const ebb = await startEbb(port, TLS ? certificate(profile) : []);
  const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", `--user-data-dir=${profile}`];
  if (TLS) flags.push("--ignore-certificate-errors");
  const browser = spawn(process.env.CHROMIUM || "chromium", [...flags, `${ebb.url}/#127.0.0.1:${port}`], { stdio: "ignore", detached: true });
  const gone = new Promise((resolve) => browser.on("exit", resolve));
  // With all that it has started: what lives on would write to the profile.
  const stop = () => {
    try {
      process.kill(-browser.pid, "SIGKILL");
    } catch {}
  };
  process.on("exit", stop);
  await until("both are open", () => seen.some((s) => s.socket === "open") && seen.some((s) => s.events === "open"));
  const report = await ebb.drain();
  console.log("the report:", JSON.stringify(report));
  await until("the socket is closed", (s) => s.socket === "closed");
  await ebb.undrain(); // stands for another pod
  await until("the EventSource is back", (s) => s.events === "back");
  const closed = seen.find((s) => s.socket === "closed");
  // A WebSocket over HTTP/1.1 would have begun with a request of that version.
  const requests = { http1: await ebb.metric("ebb_requests_total", "http1"), http2: await ebb.metric("ebb_requests_total", "http2") };
  console.log("requests:", JSON.stringify(requests));
  const fine =
    report.outcome === "clean" && closed.code === 1001 && closed.wasClean && seen.some((s) => s.app === 1001) &&
    seen.find((s) => s.events === "ended").state === "connecting" && (requests.http1 === 0) === TLS && (requests.http2 > 0) === TLS;
  console.log(fine ? "as it should be" : "NOT as it should be");
  stop();
  await gone;
  fs.rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  process.exit(fine ? 0 : 1);
}

main().catch((error) => {
  console.log(String(error));
  process.exit(1);
});
