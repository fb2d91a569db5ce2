"""Differences that stand, each with its reason: a text that occurs in the line → why."""

EXPLAINED: dict[str, str] = {}
