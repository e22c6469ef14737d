"""Optical flow: RAFT-small in Flax, run on whole clips inside the train step."""
