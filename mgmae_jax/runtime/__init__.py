"""Devices, processes, checkpoints, metrics: jax and libraries only."""
