"""The protocol generator: specs in, straight-line Python out."""
