"""Procedural pairs of frames whose flow is known, for training the flow network."""
