"""OTLP receivers: trace exports over HTTP and gRPC become samples, and are answered once what they brought is kept.

Nothing here is imported unless a receiver is on: the protobuf library costs memory that most agents can do without.
"""
