"""The gRPC app behind ebb: every kind of call, health and reflection. Prints its port, ends at SIGTERM."""

import argparse
import asyncio
import os
import signal
import time

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from stubs import talk, talk_grpc


class Talk(talk_grpc.TalkServicer):
    def __init__(self, name):
        self.name = name
        self.fates = {}

    def said(self, **fields):
        return talk.Said(server=self.name, **fields)

    def witness(self, context):
        """Notes a named call's deadline, and when it is over."""
        metadata = dict(context.invocation_metadata())
        fate = self.fates.setdefault(metadata.get("x-name", ""), talk.Fate())
        left = context.time_remaining()
        fate.seen, fate.time_left = True, -1 if left is None else left

        def done(_):
            fate.ended_at = time.monotonic()

        context.add_done_callback(done)

    async def Echo(self, request, context):
        metadata = dict(context.invocation_metadata())
        if "x-initial-bin" in metadata:
            await context.send_initial_metadata((("x-initial-bin", metadata["x-initial-bin"]),))
        if "x-trailing-bin" in metadata:
            context.set_trailing_metadata((("x-trailing-bin", metadata["x-trailing-bin"]),))
        if request.pause_ms:
            await asyncio.sleep(request.pause_ms / 1000)
        return self.said(text=request.text, blob=request.blob)

    async def Gather(self, requests, context):
        self.witness(context)
        texts, size = [], 0
        async for request in requests:
            texts.append(request.text)
            size += len(request.blob)
        return self.said(text=" ".join(texts), blob=str(size).encode(), number=len(texts))

    async def Count(self, request, context):
        self.witness(context)
        number = 0
        while number < request.count or request.count == 0:
            yield self.said(number=number, blob=bytes(request.size))
            number += 1
            await asyncio.sleep(request.pause_ms / 1000)

    async def Chat(self, requests, context):
        self.witness(context)
        number = 0
        async for request in requests:
            yield self.said(text=request.text, blob=request.blob, number=number)
            number += 1

    async def Forget(self, request, context):
        self.witness(context)
        await asyncio.Event().wait()

    async def Fail(self, requests, context):
        number = 0
        async for request in requests:
            number += 1
            if number >= request.count:
                break
            yield self.said(number=number)
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.QuotaFailure(violations=[{"subject": "words", "description": "zu viele: ß%"}]))
        status = rpc_status.to_status(
            status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="genug: ß%", details=[detail])
        )
        await context.abort(status.code, status.details, status.trailing_metadata)

    async def Crash(self, request, context):
        yield self.said(number=0)
        await asyncio.sleep(request.pause_ms / 1000)
        os._exit(3)

    async def Witness(self, request, context):
        return self.fates.get(request.text, talk.Fate())


async def serve(name, port, grace, max_age):
    # Without SO_REUSEPORT, so that a port in use is an error.
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
    if max_age:
        options.append(("grpc.max_connection_age_ms", max_age))
    server = grpc.aio.server(options=options)
    talk_grpc.add_TalkServicer_to_server(Talk(name), server)
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    services = [talk.DESCRIPTOR.services_by_name["Talk"].full_name, health.SERVICE_NAME]
    reflection.enable_server_reflection([*services, reflection.SERVICE_NAME], server)
    for service in ["", *services]:
        await healthy.set(service, health_pb2.HealthCheckResponse.SERVING)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print(port, flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await healthy.enter_graceful_shutdown()
    await server.stop(grace)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="app")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--grace", type=float, default=1.0)
    parser.add_argument("--max-age", type=int, help="milliseconds after which a connection is told to go")
    args = parser.parse_args()
    asyncio.run(serve(args.name, args.port, args.grace, args.max_age))
