"""Warns of topics' own settings that nothing acts on yet: of each when it is made or altered, and at a start.

Told of every change by the follower. Internal topics are nobody's wish.
"""

import logging
from typing import Final

from kafkapy.cluster.image import Change
from kafkapy.config.advice import idle_topic_settings

_log = logging.getLogger(__name__)

_NAMED: Final = 3
"""Topics that a line names; of further ones it tells the number."""


def warn_of_idle_settings(change: Change) -> None:
    """One line a complaint, for all topics that it is new for."""
    topics: dict[str, list[str]] = {}
    for topic in (*change.created, *change.changed):
        if not topic.overrides or topic.is_internal:
            continue
        before = change.old.topic(topic.name)
        known = before.overrides if before is not None and before.topic_id == topic.topic_id else {}
        new = {name: text for name, text in topic.overrides.items() if known.get(name) != text}
        for complaint in idle_topic_settings(new):
            topics.setdefault(complaint, []).append(topic.name)
    for complaint, names in topics.items():
        others = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        _log.warning("topic %s%s: %s", ", ".join(names[:_NAMED]), others, complaint)
