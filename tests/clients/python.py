"""The Python package `websockets`, as client and as app, across a drain; with `--tls` over TLS. See README.md."""

import asyncio
import json
import os
import random
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.request

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

EBB = os.environ.get("EBB", "target/debug/ebb")
CLIENTS = 20
FLAGS = ["--grace-period", "12s", "--app-shutdown", "1s", "--lame-duck-min", "500ms", "--lame-duck-max", "2s", "--quiet", "200ms"]

def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


FORWARD, ADMIN = free_port(), free_port()
TLS = "--tls" in sys.argv[1:]
closed_at_app = []


async def app(connection):
    """Echoes, and notes how the client's end was."""
    try:
        async for message in connection:
            await connection.send(message)
    except websockets.ConnectionClosed:
        pass
    closed_at_app.append(connection.close_code)


def certificate(folder):
    """Makes one for 127.0.0.1; ebb's flags, and what the clients trust."""
    cert, key = f"{folder}/tls.crt", f"{folder}/tls.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2",
         "-subj", "/CN=ebb", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return ["--tls-cert", cert, "--tls-key", key], ssl.create_default_context(cafile=cert)


async def client(number, trust):
    """Sends messages of all sizes and checks their echoes until it is told to go."""
    messages = 0
    url = f"{'wss' if TLS else 'ws'}://127.0.0.1:{FORWARD}/"
    async with connect(url, max_size=None, ssl=trust) as connection:
        compressed = bool(connection.protocol.extensions)
        try:
            while True:
                message = random.randbytes(random.choice([1, 125, 126, 65535, 65536, 300_000]))
                await connection.send(message)
                if await connection.recv() != message:
                    raise SystemExit(f"client {number}: message {messages} is damaged")
                messages += 1
        except websockets.ConnectionClosed:
            pass
        return connection.close_code, connection.close_reason, compressed, messages


def drain():
    with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/drain", timeout=60) as answer:
        return json.load(answer)


async def main():
    with tempfile.TemporaryDirectory() as folder:
        await drained(*(certificate(folder) if TLS else ([], None)))


async def drained(flags, trust):
    scheme = "https" if TLS else "http"
    async with serve(app, "127.0.0.1", 0, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        ebb = await asyncio.create_subprocess_exec(
            EBB, "proxy", "--forward", f"{scheme}://127.0.0.1:{FORWARD}={port}", "--admin", f"127.0.0.1:{ADMIN}",
            "--log-level", "error", *FLAGS, *flags,
        )  # fmt: skip
        try:
            for _ in range(100):
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", FORWARD)
                    writer.close()
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.05)
            clients = [asyncio.create_task(client(n, trust)) for n in range(CLIENTS)]
            await asyncio.sleep(1)
            report = await asyncio.to_thread(drain)
            seen = await asyncio.gather(*clients)
        finally:
            ebb.terminate()
            await ebb.wait()
    codes = [code for code, *_ in seen]
    print(f"websockets {websockets.__version__}, TLS: {TLS}, permessage-deflate: {all(c for _, _, c, _ in seen)}")
    print(f"messages echoed, whole: {sum(n for *_, n in seen)}")
    print(f"close codes at the clients: {codes}")
    print(f"close codes at the app:     {closed_at_app}")
    print(f"report: {report['outcome']}, websocket {report['connections']['websocket']}")
    fine = set(codes) == {1001} and set(closed_at_app) == {1001} and report["outcome"] == "clean"
    print("as it should be" if fine else "NOT as it should be")
    sys.exit(not fine)


asyncio.run(main())
