import cv2
import jax
import numpy as np
import pytest
from PIL import Image

from mgmae_jax.commands import visualize
from mgmae_jax.commands.config_file import load_config, load_run_config
from mgmae_jax.commands.pictures import mask_and_reconstruct
from mgmae_jax.data.encode import encode_mp4
from mgmae_jax.data.flow_places import flow_path
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.pretrain_clips import host_clip_flow
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.errors import ConfigError, FileError, MgmaeError, VideoError
from mgmae_jax.masking.strategies import STRATEGIES
from mgmae_jax.runtime.checkpoint import FOLDER, Checkpoints
from mgmae_jax.runtime.run_info import write_run_info
from mgmae_jax.show.clip import motion_shapes_clip
from mgmae_jax.train.clips import flow_spec
from mgmae_jax.train.pretrain import build_pretraining
from tests.stored_dense import store_dense

SMALL = [
    "--config.clip.frames=4", "--config.clip.size=32", "--config.clip.stride=2", "--config.model.name=tiny",
    "--config.model.patch=8", "--config.model.decoder_depth=1", "--config.mask.ratio=0.75",
    "--config.flow.source=tvl1", "--config.flow.tvl1_fast=true",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_compilation_cache(monkeypatch):
    monkeypatch.setattr(visualize, "enable_compilation_cache", lambda folder: None)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "shapes.mp4"
    path.write_bytes(encode_mp4(motion_shapes.render(0, 0, size=(32, 48), frames=12).frames, 12))
    return str(path)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Of a run that has made no step."""
    folder = tmp_path_factory.mktemp("run")
    config = load_config("pretrain/common", SMALL)
    state = jax.jit(build_pretraining(config, videos=1).init)(jax.random.key(0))
    write_run_info(folder, config, ["mgmae", "pretrain"])
    with Checkpoints(folder / FOLDER, every=1, keep=1) as checkpoints:
        checkpoints.save(7, state, {})
    return folder


def size(path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_a_png_has_a_column_for_each_frame(video, tmp_path, capsys):
    path = tmp_path / "new" / "masks.png"
    visualize.main([video, "--out", str(path), *SMALL])
    assert "masks.png" in capsys.readouterr().err
    assert size(path)[0] == 2 * 16 + 116 + 4 * (112 + 4)


def test_a_gif_has_a_picture_for_each_frame(video, tmp_path):
    path = tmp_path / "masks.gif"
    visualize.main(["--out", str(path), *SMALL, "--start=3", video])
    with Image.open(path) as film:
        assert film.n_frames == 4


def test_the_seed_draws_another_mask(video, tmp_path):
    for seed in (0, 1):
        visualize.main([video, f"--out={tmp_path}/{seed}.png", f"--seed={seed}", *SMALL])
    assert (tmp_path / "0.png").read_bytes() != (tmp_path / "1.png").read_bytes()


def test_stored_flow_is_that_of_the_video(tmp_path):
    video, size = tmp_path / "shapes.mp4", (32, 48)
    video.write_bytes(encode_mp4(motion_shapes.render(0, 0, size=size, frames=12).frames, 12))
    arguments = [str(video), *SMALL, "--config.flow.source=stored"]
    with pytest.raises(FileError, match=r"shapes\.mp4\.flow\.safetensors: the flow of .*shapes\.mp4 is not there"):
        visualize.main([*arguments, f"--out={tmp_path}/none.png"])
    flow = [motion_shapes.true_flow(0, 0, size=size, frames=12, backward=way) for way in (False, True)]
    pictures = []
    for name, sign in (("true", 1), ("reversed", -1)):
        store_dense(video, sign * np.stack(flow))
        visualize.main([*arguments, f"--out={tmp_path}/{name}.png"])
        pictures.append(cv2.imread(f"{tmp_path}/{name}.png"))
    assert (pictures[0] != pictures[1]).any()
    flow_path(video).unlink()
    store_dense(video, np.stack(flow), tmp_path / "flow" / flow_path(video).name)
    visualize.main([*arguments, f"--config.flow.path={tmp_path}/flow", f"--out={tmp_path}/apart.png"])
    assert (tmp_path / "apart.png").read_bytes() == (tmp_path / "true.png").read_bytes()


def test_a_strategy_without_flow_shows_none(tmp_path):
    arguments = ["--motion-shapes=falling", *SMALL]
    visualize.main([*arguments, f"--out={tmp_path}/motion.png"])
    visualize.main([*arguments, f"--out={tmp_path}/tube.png", "--config.mask.strategy=tube"])
    assert size(tmp_path / "motion.png")[1] - size(tmp_path / "tube.png")[1] >= 5 * (112 + 4)


@pytest.mark.slow
def test_strategies_are_drawn_side_by_side(tmp_path):
    """All of them, from one clip, without a checkpoint; those that need flow share it."""
    arguments = ["--motion-shapes=falling", *SMALL, "--config.flow.source=stored"]
    out = tmp_path / "strategies.png"
    visualize.main([*arguments, f"--out={out}", "--strategies", *STRATEGIES])
    visualize.main([*arguments, f"--out={tmp_path}/two.png", "--strategies", "tube", "motion"])
    more = size(out)[1] - size(tmp_path / "two.png")[1]
    assert more == pytest.approx((len(STRATEGIES) - 2) * (88 + 4), abs=20)  # and a line of the caption


def test_the_flow_is_read_only_if_a_strategy_needs_it(video, tmp_path):
    arguments = [video, *SMALL, "--config.flow.source=none", f"--out={tmp_path}/masks.png", "--strategies"]
    visualize.main([*arguments, "tube", "random"])
    with pytest.raises(ConfigError, match=r"flow\.source='none'.*\(for --strategies motion\)"):
        visualize.main([*arguments, "tube", "motion"])


def test_strategies_are_drawn_without_a_model_as_png(video, workdir, tmp_path):
    with pytest.raises(MgmaeError, match=r"--strategies: .*leave --checkpoint out"):
        visualize.main([video, f"--checkpoint={workdir}", "--strategies", "tube"])
    with pytest.raises(FileError, match=r"masks\.gif: strategies are drawn side by side as \.png"):
        visualize.main([video, f"--out={tmp_path}/masks.gif", "--strategies", "tube"])


def test_a_checkpoint_brings_its_config_and_reconstructions(video, workdir, tmp_path):
    visualize.main([video, f"--out={tmp_path}/masks.png", *SMALL])
    visualize.main([video, f"--out={tmp_path}/run.png", f"--checkpoint={workdir}"])
    without, full = size(tmp_path / "masks.png"), size(tmp_path / "run.png")
    assert full[0] == without[0]
    assert full[1] >= without[1] + 112 + 4


def test_reconstructions_keep_what_is_visible(workdir):
    checkpoint = workdir / FOLDER / "7"
    config = load_run_config(checkpoint, [])
    clip, _ = motion_shapes_clip("falling", 0, ClipSpec(4, 2, 32), None)
    pretraining = build_pretraining(config, 1)
    flow = host_clip_flow(clip, flow_spec(config, pretraining.masks))
    shown = mask_and_reconstruct(pretraining, checkpoint, {}, clip, flow, jax.random.key(0), "a title")
    visible = shown.visible.repeat(2, 0).repeat(8, 1).repeat(8, 2)
    assert visible.mean() == 0.25
    np.testing.assert_array_equal(shown.reconstruction[visible], clip[visible])
    assert (shown.reconstruction[~visible] != clip[~visible]).mean() > 0.5
    for words in ("a title", "step 7", "neighbour nearer the base frame", "mean and variance"):
        assert words in shown.caption


def test_fields_of_a_run_can_be_changed(workdir):
    config = load_run_config(workdir, ["--config.mask.ratio=0.5", "--config.flow.size=96"])
    assert (config.mask.ratio, config.flow.size, config.clip.size) == (0.5, 96, 32)
    for override, words in {
        "--config.mask.ration=0.5": 'has no field "ration"; did you mean "ratio"',
        "--config.mask.ratio=half": "half",
        "--bogus": "bogus",
    }.items():
        with pytest.raises(MgmaeError, match=words):
            load_run_config(workdir, [override])


def test_a_checkpoint_without_its_run_is_an_error(workdir, tmp_path):
    (tmp_path / "7").symlink_to(workdir / FOLDER / "7")
    with pytest.raises(FileError, match=r"config\.json.*--checkpoint"):
        load_run_config(tmp_path / "7", [])
    with pytest.raises(FileError, match="no such file or folder"):
        load_run_config(tmp_path / "elsewhere", [])


def test_a_damaged_config_is_an_error(workdir, tmp_path):
    (tmp_path / FOLDER).symlink_to(workdir / FOLDER)
    for text in ("{", "[1]", "3"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(FileError, match=r"config\.json: cannot be read"):
            load_run_config(tmp_path, [])


def test_other_endings_are_refused_before_any_work(tmp_path):
    with pytest.raises(FileError, match=r"masks\.jpg.*\.png, \.gif or \.mp4"):
        visualize.main(["no such video", f"--out={tmp_path}/masks.jpg"])


def test_what_is_no_video_is_an_error(tmp_path):
    (tmp_path / "notes.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"notes\.mp4"):
        visualize.main([f"{tmp_path}/notes.mp4", *SMALL])


def test_raft_without_weights_says_what_to_do(video):
    with pytest.raises(ConfigError, match=r"flow\.weights.*bundled, or a file of RAFT-small's weights"):
        visualize.main([video, *SMALL, "--config.flow.source=raft", "--config.flow.weights="])


def test_synthetic_pairs_are_drawn(tmp_path):
    visualize.main(["--synthetic-flow=3", "--seed=1", f"--out={tmp_path}/pairs.png"])
    picture = cv2.imread(str(tmp_path / "pairs.png"))
    assert picture.shape[1] > picture.shape[0] > 300
    assert picture[30:150].std() > 30


@pytest.mark.parametrize(
    "arguments", [["--synthetic-flow=0"], ["--synthetic-flow=65"], ["--synthetic-flow=1", "--seed=-1"]]
)
def test_synthetic_pairs_out_of_range(tmp_path, arguments):
    with pytest.raises(MgmaeError, match="give 1 to 64 pairs"):
        visualize.main([*arguments, f"--out={tmp_path}/pairs.png"])
    with pytest.raises(FileError, match=r"pairs\.gif: synthetic pairs are drawn as \.png"):
        visualize.main(["--synthetic-flow=1", f"--out={tmp_path}/pairs.gif"])


@pytest.mark.parametrize(
    "arguments", [[], ["a.mp4", "--motion-shapes=falling"], ["a.mp4", "--config=a", "--checkpoint=b"]]
)
def test_contradictions_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        visualize.main(arguments)
    assert end.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit):
        visualize.main(["--help"])
    assert "mgmae visualize VIDEO.mp4 --out masks.png" in capsys.readouterr().out
