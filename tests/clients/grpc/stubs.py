"""The generated code for talk.proto, made when it is imported: nothing generated is kept."""

import os
import sys

import grpc

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
talk, talk_grpc = grpc.protos_and_services("talk.proto")
