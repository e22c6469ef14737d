"""Memory that reading videos has freed: given back to the system from time to time, so that processes do not grow."""

from __future__ import annotations

import ctypes
import itertools

_EVERY = 256  # videos: giving back takes milliseconds

_closed = itertools.count(1)
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only of glibc


def video_closed() -> None:
    """To be called whenever a video has been closed.

    glibc keeps what decoders free, in pieces that the next video does not quite fit: without this, a process grows by a
    tenth in a few thousand videos.
    """
    if _trim is not None and next(_closed) % _EVERY == 0:
        _trim(0)
