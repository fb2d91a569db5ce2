"""librdkafka's own tests, as far as they need a broker; see scenario.py."""

import scenario

scenario.main("default")
