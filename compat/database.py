"""A PostgreSQL of its own for brokers in processes: prints its URL, and ends with its standard input.

    python compat/database.py DIR

Called by `clusters.py` with an interpreter that has kafkapy's extra `cluster`.
"""

import sys

from kafkapy.cli.embedded_database import embedded_database

if __name__ == "__main__":
    with embedded_database(sys.argv[1]) as url:
        print(url, flush=True)
        sys.stdin.read()
