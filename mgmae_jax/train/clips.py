"""What a training run reads: its videos, how they make up batches, and the clips that it pre-trains on.

Apart from the trainers' steps, so that a machine which only runs or measures these needs no video reader.
"""

from collections.abc import Callable

from jax.sharding import Mesh
from ml_collections import ConfigDict

from mgmae_jax.data.batches import BatchSpec, TrainBatches
from mgmae_jax.data.frame_cache import FrameCache
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.host_flow import MIN_SIDE
from mgmae_jax.data.pretrain_clips import FlowSpec, pretrain_batches
from mgmae_jax.data.sources import VideoList
from mgmae_jax.datasets.find import find_videos, flow_folders
from mgmae_jax.errors import ConfigError
from mgmae_jax.runtime.mesh import process_share
from mgmae_jax.train.masks import MaskStep, build_mask_step


def batch_spec(config: ConfigDict, mesh: Mesh) -> BatchSpec:
    """How config.train and config.data compose the batches, and which share of them this process reads."""
    return BatchSpec(
        batch_size=config.train.batch_size,
        views=config.data.views,
        seed=config.seed,
        workers=config.data.workers,
        share=process_share(mesh),
    )


def list_name(videos: VideoList) -> str:
    """What a run's checkpoints say of its videos: how many they are, and their digest."""
    return f"{len(videos)} videos, {videos.digest()}"


def flow_spec(config: ConfigDict, masks: MaskStep) -> FlowSpec | None:
    """What flow the data workers are to compute or read.

    Raises:
      ConfigError: the clips are too small for it.
    """
    source = masks.flow.source
    if source not in ("tvl1", "dis", "stored", "codec") or not masks.needs_flow:
        return None
    if source in ("tvl1", "dis") and config.clip.size < MIN_SIDE:
        raise ConfigError("clip.size", config.clip.size, f"{MIN_SIDE} pixels or more for flow.source={source}")
    base = None if masks.given_both_ways else {"middle": masks.grid.frames // 2, "first": 0}[masks.mask.base_frame]
    root, folder = flow_folders(config)
    return FlowSpec(base, masks.mask.direction, masks.flow.tvl1_fast, source, root, folder)


def frame_cache(config: ConfigDict) -> FrameCache | None:
    """Where decoded frames are kept; None unless `data.cache` is set.

    Raises:
      ConfigError: it may hold nothing.
    """
    folder = config.data.get("cache", "")  # which configs of older runs do not have
    if not folder:
        return None
    if config.data.cache_gib <= 0:
        raise ConfigError("data.cache_gib", config.data.cache_gib, "a number above 0, or leave data.cache empty")
    return FrameCache(folder, config.data.cache_gib)


def find_clips(config: ConfigDict) -> VideoList:
    """The videos that a pre-training config names, the procedural ones with their flow if it is read.

    Raises:
      MgmaeError: see `find_videos`; or a field of the masks has a value that cannot work.
    """
    masks = build_mask_step(config)
    flow_spec(config, masks)
    frame_cache(config)
    return find_videos(config, flow=masks.reads_stored_flow)


def open_clips(
    config: ConfigDict,
    masks: MaskStep,
    videos: VideoList,
    first: int,
    on_bad: Callable[[str, str], None],
    spec: BatchSpec,
) -> TrainBatches:
    """This process's batches from step `first` on; `spec` is `batch_spec`, or another composition."""
    return pretrain_batches(
        videos,
        ClipSpec(config.clip.frames, config.clip.stride, config.clip.size),
        spec,
        start_step=first,
        flow=flow_spec(config, masks),
        on_bad=on_bad,
        cache=frame_cache(config),
        whole=masks.given_whole_side(spec.views),
    )
