"""Configs for probes of a frozen encoder."""
