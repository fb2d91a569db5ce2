"""`python -m kafkapy`: the command line."""

import sys

from kafkapy.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
