"""gRPC across the end of a pod: a rollout under load, the drain's deadline, an app that is down or crashes.

Nothing is repeated by this client, and grpc has no retry policy: it repeats only what it may by itself, a stream that
the server has not looked at. Every failed call counts.
"""

import argparse
import asyncio
import collections
import json
import signal
import subprocess
import time

import grpc

from pod import EBB, Checks, Pod
from stubs import talk, talk_grpc

# The deadline is 8 s after the trigger.
TIMES = ["--grace-period", "10s", "--app-shutdown", "1s", "--lame-duck-min", "2s", "--lame-duck-max", "4s"]
TIMES += ["--quiet", "1s"]

ROUND_ROBIN = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
# A list of addresses would make an `:authority` with a percent sign, which ebb refuses.
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.default_authority", "talk")]
FOREVER = talk.Say(count=0, pause_ms=20)


def channel(*pods):
    addresses = ",".join(pod.addr for pod in pods)
    return grpc.aio.insecure_channel(f"ipv4:{addresses}", options=[*OPTIONS, ("grpc.service_config", ROUND_ROBIN)])


async def code_of(call):
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


class Load:
    """Unary calls at a steady rate, until it is stopped."""

    def __init__(self, stub, rate):
        self.stub, self.rate = stub, rate
        self.servers, self.failures = collections.Counter(), collections.Counter()
        self.slowest = 0
        self.stopped = False
        self.task = asyncio.create_task(self.run())

    async def call(self):
        begun = time.monotonic()
        try:
            said = await self.stub.Echo(talk.Say(text="x"), timeout=20)
            self.servers[said.server] += 1
        except grpc.aio.AioRpcError as error:
            self.failures[f"{error.code().name}: {error.details()}"] += 1
        took = time.monotonic() - begun
        self.slowest = max(self.slowest, took)

    async def run(self):
        self.begun, calls = time.monotonic(), set()
        made = 0
        while not self.stopped:
            due = int((time.monotonic() - self.begun) * self.rate)
            while made < due:
                calls.add(task := asyncio.create_task(self.call()))
                task.add_done_callback(calls.discard)
                made += 1
            await asyncio.sleep(0.005)
        self.took = time.monotonic() - self.begun
        await asyncio.gather(*calls)

    async def stop(self):
        self.stopped = True
        await self.task
        made = self.servers.total() + self.failures.total()
        failures = self.failures.total()
        return made, failures, (
            f"{made} unary calls ({made / self.took:.0f}/s, slowest {self.slowest:.2f} s, {dict(self.servers)}), "
            f"{failures} failed {dict(self.failures) or ''}"
        )


async def hook(pod):
    return await asyncio.to_thread(pod.delete)


async def command(pod):
    """The same with `ebb drain`."""
    drain = [EBB, "drain", "--admin", f"http://{pod.ebb.admin}"]
    done = await asyncio.to_thread(subprocess.run, drain, capture_output=True, text=True)
    pod.app.signal(signal.SIGTERM)
    pod.ebb.signal(signal.SIGTERM)
    return json.loads(done.stdout), await asyncio.to_thread(pod.ebb.wait)


async def sigterm(pod):
    """No hook: ebb alone is told."""
    pod.ebb.signal(signal.SIGTERM)
    code = await asyncio.to_thread(pod.ebb.wait)
    line = pod.ebb.logged(lambda line: "outcome" in line or "report" in line)
    return line.get("report", line), code


def outcome(report):
    """How the drain ended, and what became of which connections."""
    report = json.loads(report) if isinstance(report, str) else report
    return report["outcome"], {end: number for end, number in report["connections"]["http2"].items() if number}


async def rollout(end, rate):
    """One of two pods goes away; a short and a long stream of each kind are under way on both."""
    with Pod("one", *TIMES) as one, Pod("two", *TIMES) as two:
        async with channel(one, two) as both, channel(one) as only, channel(two) as other:
            stub = talk_grpc.TalkStub(both)
            await asyncio.gather(*(each.channel_ready() for each in (both, only, other)))
            load = Load(stub, rate)
            await asyncio.sleep(1)
            finite = asyncio.create_task(count(talk_grpc.TalkStub(only), talk.Say(count=150, pause_ms=20)))
            turns = asyncio.create_task(chat(talk_grpc.TalkStub(only), 150))
            elsewhere = asyncio.create_task(count(talk_grpc.TalkStub(other), talk.Say(count=400, pause_ms=20)))
            await asyncio.sleep(0.3)
            report, code = await end(one)
            await asyncio.sleep(1)
            made, failures, saw = await load.stop()
            streams = [await finite, await turns, await elsewhere]
    how, connections = outcome(report)
    assert failures == 0, saw
    assert made > 0 and load.servers["one"] and load.servers["two"], saw
    assert streams == [150, 150, 400], streams
    assert (how, code) == ("clean", 0), (how, code, connections)
    return f"{saw}; streams of {streams} messages whole; {how} {connections}"


async def count(stub, say):
    number = 0
    async for _ in stub.Count(say):
        number += 1
    return number


async def chat(stub, turns):
    call = stub.Chat()
    for number in range(turns):
        try:
            await call.write(talk.Say(text=str(number)))
        except asyncio.InvalidStateError:
            raise AssertionError(f"after {number} turns: {await call.code()} {await call.details()}") from None
        said = await call.read()
        assert said.text == str(number)
        await asyncio.sleep(0.02)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() == grpc.StatusCode.OK
    return turns


async def endless(kind, size):
    """A stream without end is ended at the deadline with UNAVAILABLE, and opened anew elsewhere."""
    with Pod("one", *TIMES) as one, Pod("two", *TIMES) as two:
        async with channel(one, two) as both:
            stub = talk_grpc.TalkStub(both)
            calls = []
            while {server for _, server, _ in calls} != {"one", "two"}:
                calls.append(await begin(stub, kind, size))
            call = next(call for call, server, _ in calls if server == "one")
            begun = time.monotonic()
            deleted = asyncio.create_task(hook(one))
            messages = 0
            try:
                while await call.read() is not grpc.aio.EOF:
                    messages += 1
            except grpc.aio.AioRpcError:
                pass
            took, code, details = time.monotonic() - begun, await call.code(), await call.details()
            again = [await begin(stub, kind, size) for _ in range(4)]
            assert {server for _, server, _ in again} == {"two"}, again
            for other, _, pump in [*calls, *again]:
                other.cancel()
                if pump:
                    pump.cancel()
            report, exit_code = await deleted
    saw = f"{code.name} ({details}) after {messages} messages and {took:.1f} s; drain {outcome(report)}, exit {exit_code}"
    assert code == grpc.StatusCode.UNAVAILABLE, saw
    assert 7.5 < took < 9.5, saw
    assert outcome(report)[0] == "forced", saw
    return f"{saw}; reopened on the other 4 times of 4"


async def begin(stub, kind, size):
    """A stream that has said its first word: the call, who answers, and what writes to it."""
    if kind == "server":
        call = stub.Count(talk.Say(count=0, pause_ms=1 if size else 20, size=size))
        return call, (await call.read()).server, None
    call = stub.Chat()
    await call.write(talk.Say(blob=bytes(size)))
    said = await call.read()

    async def write():
        while not call.done():
            try:
                await call.write(talk.Say(blob=bytes(size)))
            except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                return
            await asyncio.sleep(0.001 if size else 0.02)

    return call, said.server, asyncio.create_task(write())


async def unanswered():
    """A call that the app never answers is UNAVAILABLE at the deadline."""
    with Pod("one", *TIMES) as one:
        async with channel(one) as only:
            waiting = asyncio.create_task(code_of(talk_grpc.TalkStub(only).Forget(talk.Say())))
            await asyncio.sleep(0.5)
            report, code = await hook(one)
            saw = await waiting
    assert saw[0] == grpc.StatusCode.UNAVAILABLE and "ebb:" in saw[1], saw
    return f"{saw[0].name} ({saw[1]}); {outcome(report)[0]}, exit {code}"


async def aged(rate):
    """The app tells ebb to go, again and again (as servers do with a limit for a connection's age)."""
    with Pod("one", *TIMES, app=["--max-age", "500"]) as one:
        async with channel(one) as only:
            stub = talk_grpc.TalkStub(only)
            await only.channel_ready()
            load = Load(stub, rate)
            gathered = await asyncio.gather(*(gather(stub, 100) for _ in range(20)))
            await asyncio.sleep(5)
            made, failures, saw = await load.stop()
    assert failures == 0 and made > 0, saw
    return f"{saw}; {len(gathered)} client streams of {gathered[0]} messages whole"


async def gather(stub, number):
    async def words():
        for _ in range(number):
            yield talk.Say(text="x")
            await asyncio.sleep(0.03)

    said = await stub.Gather(words())
    assert said.number == number
    return number


async def down():
    """No app: whoever calls hears so from ebb."""
    with Pod("one", *TIMES) as one:
        one.app.stop()
        async with channel(one) as only:
            stub = talk_grpc.TalkStub(only)
            unary = await code_of(stub.Echo(talk.Say(), timeout=10))
            stream = stub.Count(FOREVER, timeout=10)
            streamed = await code_of(stream.read())
            chat = stub.Chat(timeout=10)
            chatted = await code_of(chat.read())
    for saw in (unary, streamed, chatted):
        assert saw[0] == grpc.StatusCode.UNAVAILABLE and "ebb:" in saw[1], saw
    return f"{unary[0].name} ({unary[1]}), unary and streams"


async def crash(size):
    """The app's process ends in the middle of a stream, while another call waits for its answer."""
    with Pod("one", *TIMES) as one:
        async with channel(one) as only:
            stub = talk_grpc.TalkStub(only)
            waiting = asyncio.create_task(code_of(stub.Forget(talk.Say())))
            chat = stub.Chat()
            await chat.write(talk.Say(text="hello"))
            assert (await chat.read()).text == "hello"
            big = stub.Count(talk.Say(count=0, size=size, pause_ms=1))
            assert (await big.read()).number == 0
            call = stub.Crash(talk.Say(pause_ms=300))
            assert (await call.read()).number == 0
            messages = 0

            async def read_on():
                nonlocal messages
                while await big.read() is not grpc.aio.EOF:
                    messages += 1
                # aio says EOF whatever the status.
                if (code := await big.code()) != grpc.StatusCode.OK:
                    raise grpc.aio.AioRpcError(code, None, None, await big.details())

            saw = [await code_of(read_on()), await code_of(call.read()), await code_of(chat.read()), await waiting]
    for code, details in saw:
        assert code == grpc.StatusCode.UNAVAILABLE, saw
    return f"four calls: {', '.join(f'{code.name} ({details})' for code, details in saw)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=200, help="unary calls a second")
    parser.add_argument("--rounds", type=int, default=1, help="how often each rollout is made")
    parser.add_argument("--only", default="", help="the checks whose name contains this")
    args = parser.parse_args()
    checks = Checks()

    def check(name, coroutine, *arguments):
        if args.only in name:
            checks.run(name, lambda: asyncio.run(asyncio.wait_for(coroutine(*arguments), 60)))

    for _ in range(args.rounds):
        check("rollout, /drain then SIGTERM", rollout, hook, args.rate)
        check("rollout, `ebb drain` then SIGTERM", rollout, command, args.rate)
        check("rollout, SIGTERM alone", rollout, sigterm, args.rate)
    check("app tells ebb to go", aged, args.rate)
    check("app down", down)
    check("app crashes", crash, 10)
    check("app crashes, large messages", crash, 3_000_000)
    check("deadline, unanswered call", unanswered)
    check("deadline, server stream", endless, "server", 0)
    check("deadline, bidirectional stream", endless, "bidi", 0)
    check("deadline, server stream of large messages", endless, "server", 3_000_000)
    check("deadline, bidirectional stream of large messages", endless, "bidi", 1_000_000)
    checks.exit()


if __name__ == "__main__":
    main()
