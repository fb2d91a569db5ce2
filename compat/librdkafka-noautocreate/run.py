"""librdkafka's own tests that want a broker which creates no topics by itself."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "librdkafka"))

import scenario

scenario.main("noautocreate")
