"""Configs for training the flow network."""
