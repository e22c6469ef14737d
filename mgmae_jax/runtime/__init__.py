"""Devices, processes, checkpoints, metrics; it knows no other room."""
