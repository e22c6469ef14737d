import io

import av
import numpy as np

from mgmae_jax.data.encode import encode_mp4
from mgmae_jax.datasets import motion_shapes


def test_the_same_frames_give_the_same_bytes():
    rng = np.random.default_rng(0)
    for index in range(4):
        frames = motion_shapes.render(0, index, size=(48, 64), frames=8).frames  # narrow: four macroblocks
        files, litter = set(), []
        for _ in range(12):  # memory that was used for something else in between shows what the encoder leaves unset
            litter = [*litter[-5:], rng.integers(0, 255, 4321 * rng.integers(1, 9), dtype=np.uint8)]
            files.add(encode_mp4(frames, 12))
        assert len(files) == 1


def test_encoding_is_close_to_the_frames():
    frames = motion_shapes.render(0, 0, size=(64, 96), frames=8).frames
    with av.open(io.BytesIO(encode_mp4(frames, 12.5))) as container:
        assert float(container.streams.video[0].average_rate) == 12.5
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(float) - frames).mean() < 6
