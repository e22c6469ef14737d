"""Configs for fine-tuning."""
