"""Everything that gRPC does, through ebb: what passes must pass untouched.

Without arguments it starts server.py and ebb in front of it; `--target` takes the address of an ebb that is there.
`--direct` goes past ebb: what fails there is not ebb's doing. `--tls` has ebb speak TLS, with a certificate made for it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from pod import App, Checks, Ebb
from stubs import talk, talk_grpc

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

# A cancellation has this long to reach the server, and a deadline to take effect.
PROMPT = 0.5


def expect(wanted, saw):
    assert wanted == saw, f"expected {wanted!r}, saw {saw!r}"


def failure(call):
    try:
        result = call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"did not fail: {str(result)[:80]}")


def certificate(folder):
    """A certificate for localhost that signs itself: its file and its key's."""
    cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    command += f" -addext subjectAltName=DNS:localhost -out {cert} -keyout {key}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return cert, key


def channel_to(target, cert=None):
    if cert is None:
        return grpc.insecure_channel(target, options=UNLIMITED)
    with open(cert, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    # gRPC refuses a server that has not agreed to h2 with ALPN.
    options = [*UNLIMITED, ("grpc.ssl_target_name_override", "localhost")]
    return grpc.secure_channel(target, credentials, options=options)


class Calls:
    def __init__(self, channel):
        self.channel = channel
        self.stub = talk_grpc.TalkStub(channel)

    def unary(self):
        blob = bytes(range(256)) * 12_000
        said = self.stub.Echo(talk.Say(text="grüß", blob=blob), timeout=20)
        assert said.text == "grüß" and said.blob == blob
        expect("", self.stub.Echo(talk.Say(), timeout=20).text)
        return f"{len(blob)} bytes there and back; an empty message, too"

    def metadata(self):
        binary = bytes(range(256))
        sent = (("x-initial-bin", binary), ("x-trailing-bin", binary[::-1]))
        _, call = self.stub.Echo.with_call(talk.Say(), metadata=sent, timeout=20)
        expect(binary, dict(call.initial_metadata())["x-initial-bin"])
        expect(binary[::-1], dict(call.trailing_metadata())["x-trailing-bin"])
        expect(grpc.StatusCode.OK, call.code())
        return "binary metadata in headers and trailers"

    def compressed(self):
        text = "again and again " * 20_000
        said = self.stub.Echo(talk.Say(text=text), compression=grpc.Compression.Gzip, timeout=20)
        assert said.text == text
        return f"{len(text)} bytes with gzip"

    def client_stream(self):
        words = [str(number) for number in range(1000)]
        said = self.stub.Gather((talk.Say(text=word, blob=bytes(20_000)) for word in words), timeout=60)
        expect(" ".join(words), said.text)
        expect(b"20000000", said.blob)
        return f"{said.number} messages, {said.blob.decode()} bytes"

    def server_stream(self):
        said = [said.number for said in self.stub.Count(talk.Say(count=1000, size=20_000), timeout=60)]
        expect(list(range(1000)), said)
        return f"{len(said)} messages of 20000 bytes"

    def slow_reader(self):
        """More than all windows hold: the reader's pace has to reach the server."""
        number = 0
        for number, said in enumerate(self.stub.Count(talk.Say(count=100, size=500_000), timeout=60), 1):
            time.sleep(0.005)
            expect(500_000, len(said.blob))
        expect(100, number)
        return f"{number} messages of 500000 bytes"

    def bidirectional(self):
        """Each message is sent only when the one before has been answered: nothing may be held back."""
        answered = threading.Semaphore(1)

        def ask():
            for number in range(300):
                assert answered.acquire(timeout=20)
                yield talk.Say(text=str(number), blob=bytes(number * 100))

        count = 0
        for said in self.stub.Chat(ask(), timeout=60):
            expect((str(count), count), (said.text, said.number))
            count += 1
            answered.release()
        expect(300, count)
        return f"{count} turns"

    def many(self):
        """More calls at a time than a connection has streams."""
        with ThreadPoolExecutor(400) as threads:
            said = threads.map(lambda n: self.stub.Echo(talk.Say(text=str(n), pause_ms=300), timeout=60), range(800))
            expect([str(number) for number in range(800)], [each.text for each in said])
        return "800 calls, 400 at a time"

    def fate(self, name, wait_ended=False):
        fate, until = None, time.monotonic() + 10
        while time.monotonic() < until:
            fate = self.stub.Witness(talk.Say(text=name), timeout=10)
            if fate.ended_at or (fate.seen and not wait_ended):
                return fate
            time.sleep(0.02)
        raise TimeoutError(f"the server did not hear of it: {fate}")

    def deadline(self, method, *request):
        name, begun = uuid.uuid4().hex, time.monotonic()
        call = lambda: list(iter_or_one(method(*request, timeout=1.0, metadata=(("x-name", name),))))
        expect(grpc.StatusCode.DEADLINE_EXCEEDED, failure(call).code())
        took = time.monotonic() - begun
        fate = self.fate(name, wait_ended=True)
        assert 0.4 < fate.time_left < 1.1, f"grpc-timeout did not pass: {fate.time_left}"
        assert 0.9 < took < 1.0 + PROMPT, f"took {took}"
        heard = fate.ended_at - begun
        assert heard < 1.0 + PROMPT, f"the server's context was cancelled after {heard}"
        return f"server had {fate.time_left:.3f} s, its context was cancelled after {heard:.3f} s"

    def cancelled(self, begin):
        name = uuid.uuid4().hex
        call = begin((("x-name", name),))
        self.fate(name)
        begun = time.monotonic()
        call.cancel()
        expect(grpc.StatusCode.CANCELLED, call.code())
        heard = self.fate(name, wait_ended=True).ended_at - begun
        assert heard < PROMPT, f"the server's context was cancelled {heard} s later"
        return f"the server's context was cancelled {heard * 1000:.1f} ms later"

    def gone(self, target, cert):
        """The client's process is killed in the middle of a call."""
        name = uuid.uuid4().hex
        command = [sys.executable, __file__, "--target", target, "--forget", name]
        client = subprocess.Popen(command + (["--ca", cert] if cert else []))
        self.fate(name)
        now = time.monotonic()
        client.kill()
        client.wait()
        heard = self.fate(name, wait_ended=True).ended_at - now
        assert heard < PROMPT, f"the server's context was cancelled {heard} s later"
        return f"the server's context was cancelled {heard * 1000:.1f} ms later"

    def details(self, messages):
        """The app ends with an error, while the client has more to say."""
        requests = (talk.Say(count=messages, blob=bytes(100_000)) for _ in range(1000))
        error = failure(lambda: list(self.stub.Fail(requests, timeout=20)))
        expect(grpc.StatusCode.RESOURCE_EXHAUSTED, error.code())
        expect("genug: ß%", error.details())
        status = rpc_status.from_call(error)
        detail = error_details_pb2.QuotaFailure()
        assert status.details[0].Unpack(detail)
        expect("zu viele: ß%", detail.violations[0].description)
        return f"{error.code().name}, {error.details()}, {detail.violations[0].subject}"

    def unimplemented(self):
        missing = self.channel.unary_unary("/ebb.talk.Talk/Missing")
        error = failure(lambda: missing(b"", timeout=20))
        expect(grpc.StatusCode.UNIMPLEMENTED, error.code())
        return error.details()

    def reflection(self):
        database = ProtoReflectionDescriptorDatabase(self.channel)
        services = sorted(database.get_services())
        assert "ebb.talk.Talk" in services and "grpc.health.v1.Health" in services, services
        methods = DescriptorPool(database).FindServiceByName("ebb.talk.Talk").methods
        expect(8, len(methods))
        return f"{', '.join(services)}; {len(methods)} methods"

    def health(self):
        stub = health_pb2_grpc.HealthStub(self.channel)
        request = health_pb2.HealthCheckRequest(service="ebb.talk.Talk")
        expect(health_pb2.HealthCheckResponse.SERVING, stub.Check(request, timeout=20).status)
        watch = stub.Watch(request, timeout=20)
        expect(health_pb2.HealthCheckResponse.SERVING, next(iter(watch)).status)
        watch.cancel()
        missing = health_pb2.HealthCheckRequest(service="missing")
        expect(grpc.StatusCode.NOT_FOUND, failure(lambda: stub.Check(missing, timeout=20)).code())
        return "Check and Watch: SERVING; NOT_FOUND for another"


def iter_or_one(call):
    return call if hasattr(call, "__iter__") else [call]


def endless(stop):
    yield talk.Say(text="first")
    stop.wait(30)


def forget(target, name, cert):
    """A call that goes on until this process is killed."""
    stub = talk_grpc.TalkStub(channel_to(target, cert))
    stub.Forget(talk.Say(), metadata=(("x-name", name),))


def run(target, cert=None):
    checks = Checks()
    with channel_to(target, cert) as channel:
        calls = Calls(channel)
        stub = calls.stub
        checks.run("unary", calls.unary)
        checks.run("metadata", calls.metadata)
        checks.run("compression", calls.compressed)
        checks.run("client stream", calls.client_stream)
        checks.run("server stream", calls.server_stream)
        checks.run("slow reader", calls.slow_reader)
        checks.run("bidirectional stream", calls.bidirectional)
        checks.run("many calls at a time", calls.many)
        stop = threading.Event()
        forever = talk.Say(count=0, pause_ms=10)
        checks.run("deadline, unary", calls.deadline, stub.Forget, talk.Say())
        checks.run("deadline, server stream", calls.deadline, stub.Count, forever)
        checks.run("deadline, client stream", calls.deadline, stub.Gather, endless(stop))
        checks.run("deadline, bidirectional", calls.deadline, stub.Chat, endless(stop))
        checks.run("cancel, unary", calls.cancelled, lambda m: stub.Forget.future(talk.Say(), metadata=m))
        checks.run("cancel, server stream", calls.cancelled, lambda m: stub.Count(forever, metadata=m))
        checks.run("cancel, client stream", calls.cancelled, lambda m: stub.Gather.future(endless(stop), metadata=m))
        checks.run("cancel, bidirectional", calls.cancelled, lambda m: stub.Chat(endless(stop), metadata=m))
        stop.set()
        checks.run("client is killed", calls.gone, target, cert)
        checks.run("error details, at once", calls.details, 1)
        checks.run("error details, in mid-stream", calls.details, 5)
        checks.run("unimplemented", calls.unimplemented)
        checks.run("reflection", calls.reflection)
        checks.run("health", calls.health)
    checks.exit()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", help="HOST:PORT of an ebb in front of server.py")
    parser.add_argument("--direct", action="store_true")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--ca", metavar="FILE", help="the target speaks TLS, with this certificate")
    parser.add_argument("--forget", metavar="NAME", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.forget:
        forget(args.target, args.forget, args.ca)
    if args.target:
        run(args.target, args.ca)
    app = App()
    ebb = cert = None
    try:
        with tempfile.TemporaryDirectory() as folder:
            if args.tls:
                cert, key = certificate(folder)
                ebb = Ebb(app.port, "--tls-cert", cert, "--tls-key", key, scheme="https://")
            elif not args.direct:
                ebb = Ebb(app.port)
            run(ebb.addr if ebb else f"127.0.0.1:{app.port}", cert)
    finally:
        app.stop()
        if ebb:
            ebb.stop()
