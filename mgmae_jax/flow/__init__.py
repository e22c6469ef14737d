"""Optical flow: RAFT-small in Flax, and Dual TV-L1 for data workers."""
