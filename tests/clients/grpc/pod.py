"""A pod on this machine: the app, and ebb in front of it. Also the little that all checks share."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
EBB = os.environ.get("EBB", os.path.join(HERE, "../../../target/debug/ebb"))


class Process:
    def __init__(self, command, **kwargs):
        self.process = subprocess.Popen(command, text=True, **kwargs)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=60):
        return self.process.wait(timeout)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class App(Process):
    def __init__(self, name="app", *flags):
        command = [sys.executable, os.path.join(HERE, "server.py"), "--name", name, *flags]
        super().__init__(command, stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())


class Ebb(Process):
    def __init__(self, app_port, *flags, scheme="", env=None):
        command = [EBB, "proxy", "--forward", f"{scheme}127.0.0.1:0={app_port}", "--admin", "127.0.0.1:0"]
        command += ["--log-format", "json", *flags]
        super().__init__(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env={**os.environ, **(env or {})})
        self.log, self.seen = [], threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        self.addr = self.logged(lambda line: "forward" in line and line["message"] == "listening")["forward"]
        self.addr = self.addr.split("//")[-1].split("=")[0].split(" ")[0]
        self.admin = self.logged(lambda line: "admin" in line and line["message"] == "listening")["admin"]
        self.admin = self.admin.split("//")[-1].rstrip("/")

    def _read(self):
        for line in self.process.stderr:
            try:
                line = json.loads(line)
            except ValueError:
                print("ebb:", line, end="")
                continue
            with self.seen:
                self.log.append(line)
                self.seen.notify_all()

    def logged(self, wanted, timeout=20):
        """Waits for a log line."""
        with self.seen:
            if not self.seen.wait_for(lambda: any(wanted(line) for line in self.log), timeout):
                raise TimeoutError(f"not in the log: {self.log}")
            return next(line for line in self.log if wanted(line))

    def phase(self, name):
        return self.logged(lambda line: line["message"] == "phase" and line["phase"] == name)

    def get(self, path, method="GET", timeout=60):
        request = urllib.request.Request(f"http://{self.admin}{path}", method=method)
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return json.loads(response.read())

    def status(self):
        return self.get("/status")

    def drain(self):
        """What the preStop hook does: blocks until the drain is over; returns the report."""
        return self.get("/drain", "POST")


class Pod:
    def __init__(self, name, *flags, app=()):
        self.app = App(name, *app)
        self.ebb = Ebb(self.app.port, *flags)
        self.addr = self.ebb.addr

    def delete(self):
        """What the kubelet does: the hook, then SIGTERM to the app, then to its sidecar."""
        report = self.ebb.drain()
        self.app.signal(signal.SIGTERM)
        self.app.wait()
        self.ebb.signal(signal.SIGTERM)
        return report, self.ebb.wait()

    def stop(self):
        self.app.stop()
        self.ebb.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Checks:
    """Runs checks and prints one line for each."""

    def __init__(self):
        self.failed = 0
        self.total = 0

    def run(self, name, check, *args):
        self.total += 1
        begun = time.monotonic()
        try:
            saw, verdict = check(*args) or "", "ok  "
        except Exception as error:  # a failed check is what this is for
            saw, verdict = f"{type(error).__name__}: {error}", "FAIL"
            self.failed += 1
        print(f"{verdict} {name}: {saw} [{time.monotonic() - begun:.2f} s]", flush=True)

    def exit(self):
        print(f"{self.total - self.failed} of {self.total} checks passed")
        sys.exit(1 if self.failed else 0)
