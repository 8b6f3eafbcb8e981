// Starts ebb in front of an app, for the other scripts here.
const { execFileSync, spawn } = require("node:child_process");
const http = require("node:http");
const path = require("node:path");
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

// A certificate for 127.0.0.1 in `folder`, as flags of ebb.
exports.certificate = (folder) => {
  const [cert, key] = ["tls.crt", "tls.key"].map((name) => path.join(folder, name));
  const made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 2 -subj /CN=ebb -addext subjectAltName=IP:127.0.0.1";
  execFileSync("openssl", [...made.split(" "), "-keyout", key, "-out", cert], { stdio: "ignore" });
  return ["--tls-cert", cert, "--tls-key", key];
};

// With `tls`, the flags of a certificate, it speaks HTTPS.
exports.startEbb = (port, tls = []) =>
  new Promise((resolve) => {
    const binary = process.env.EBB || "target/debug/ebb";
    const scheme = tls.length ? "https" : "http";
    const forward = ["--forward", `${scheme}://127.0.0.1:0=${port}`, "--admin", "127.0.0.1:0", ...tls];
    const ebb = spawn(binary, ["proxy", ...forward, ...FLAGS], { stdio: ["ignore", "inherit", "pipe"] });
    process.on("exit", () => ebb.kill("SIGKILL"));
    let url, admin;
    readline.createInterface({ input: ebb.stderr }).on("line", (text) => {
      const line = JSON.parse(text);
      if (line.level !== "INFO") console.log("ebb:", text);
      if (line.message !== "listening") return;
      url = line.forward ? `${scheme}://${line.forward.split("/").pop()}` : url;
      admin = line.admin ? `http://${line.admin.split("/").pop()}` : admin;
      if (!url || !admin) return;
      const drain = async () => JSON.parse(await call("GET", `${admin}/drain`));
      const undrain = () => call("POST", `${admin}/undrain`);
      const stop = () => new Promise((done) => (ebb.on("exit", done), ebb.kill("SIGTERM")));
      // The sum of the samples whose line has all these words in it.
      const metric = async (...words) => {
        const lines = (await call("GET", `${admin}/metrics`)).split("\n");
        const wanted = lines.filter((line) => !line.startsWith("#") && words.every((word) => line.includes(word)));
        return wanted.reduce((sum, line) => sum + Number(line.split(" ").pop()), 0);
      };
      resolve({ url, drain, undrain, stop, metric });
    });
  });
