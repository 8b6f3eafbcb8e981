// Starts ebb in front of an app, for the other scripts here.
const { spawn } = require("node:child_process");
const http = require("node:http");
const readline = require("node:readline");

const FLAGS = "--grace-period 12s --app-shutdown 1s --lame-duck-min 500ms --lame-duck-max 2s --quiet 200ms --log-format json".split(" ");

const call = (method, url) =>
  new Promise((resolve, reject) => {
    const request = http.request(url, { method }, (response) => {
      let text = "";
      response.on("data", (data) => (text += data));
      response.on("end", () => resolve(text));
    });
    request.on("error", reject);
    request.end();
  });

exports.startEbb = (port) =>
  new Promise((resolve) => {
    const binary = process.env.EBB || "target/debug/ebb";
    const forward = ["--forward", `127.0.0.1:0=${port}`, "--admin", "127.0.0.1:0"];
    const ebb = spawn(binary, ["proxy", ...forward, ...FLAGS], { stdio: ["ignore", "inherit", "pipe"] });
    process.on("exit", () => ebb.kill("SIGKILL"));
    let url, admin;
    readline.createInterface({ input: ebb.stderr }).on("line", (text) => {
      const line = JSON.parse(text);
      if (line.level !== "INFO") console.log("ebb:", text);
      if (line.message !== "listening") return;
      url = line.forward ? `http://${line.forward.split("/").pop()}` : url;
      admin = line.admin ? `http://${line.admin.split("/").pop()}` : admin;
      if (!url || !admin) return;
      const drain = async () => JSON.parse(await call("GET", `${admin}/drain`));
      const undrain = () => call("POST", `${admin}/undrain`);
      const stop = () => new Promise((done) => (ebb.on("exit", done), ebb.kill("SIGTERM")));
      resolve({ url, drain, undrain, stop });
    });
  });
