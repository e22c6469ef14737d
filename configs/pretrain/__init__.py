"""Configs for pre-training."""
