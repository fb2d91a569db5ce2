"""The Kafka protocol as bytes: frames, headers, and one generated codec module per API.

Pure: bytes and values in, values and bytes out. Everything malformed raises `primitives.ProtocolError`.
"""
