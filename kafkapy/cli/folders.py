"""Where data lives when nobody says."""

from pathlib import Path

import platformdirs


def default_data_dir() -> Path:
    """A folder of the user's own, by the platform's custom."""
    return Path(platformdirs.user_data_dir("kafkapy", appauthor=False)) / "data"
