"""Who is connected: TLS, SASL, and the names that come of them.

How a mechanism goes and who may come in is decided by plain functions; what reads files is apart from them.
"""
