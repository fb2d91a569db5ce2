"""kafkapy in tests: a real broker inside the process, or beside it, and what a test wants to do with it.

What is here speaks to its broker as any client does, over its listener: so the same calls work on a broker in a thread,
in a process of its own, in the caller's event loop, and on an Apache Kafka.
"""
