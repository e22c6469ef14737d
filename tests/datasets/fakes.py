"""Small data sets in the true layouts of Something-Something V2, Kinetics, UCF101 and HMDB51: real files, few videos.

`python tests/datasets/fakes.py FOLDER` makes one of each with 40 videos.
"""

import csv
import json
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SSV2_CLASSES = {
    "Approaching something with your camera": "0",
    "Pushing something from left to right": "1",
    "Putting something on a surface": "2",
    "Turning something upside down": "3",
}
CLASSES = ("ApplyEyeMakeup", "Archery", "BabyCrawling", "YoYo")
# Codec, pixel format and options of the originals: webm, MP4 from YouTube, DivX in AVI.
_CODECS = {
    ".webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "40", "b": "0", "g": "128"}),
    ".mp4": ("libx264", {"preset": "ultrafast", "g": "250"}),
    ".avi": ("mpeg4", {"q": "5"}),
}


def write_video(path: Path, seed: int, frames: int = 20, height: int = 48, width: int = 64) -> None:
    """A square that moves over noise in the direction and at the speed that the seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.integers(0, 160, (height // 8, width // 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    codec, options = _CODECS[path.suffix]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(12), options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.thread_count = 1
        for i in range(frames):
            image = ground.copy()
            top, left = (i * (seed % 3 - 1) + 16) % (height - 12), (i * (seed % 2 + 1) + 8) % (width - 12)
            image[top : top + 12, left : left + 12] = (220, 60 * (seed % 4), 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def something_something_v2(root: Path, videos: int = 40, absent: Sequence[int] = ()) -> Path:
    """labels/*.json and 20bn-something-something-v2/ID.webm; three quarters train, the rest validation, four test."""
    (root / "labels").mkdir(parents=True)
    names = list(SSV2_CLASSES)
    rows = []
    for i in range(videos):
        bare = names[i % len(names)]
        rows.append(
            {
                "id": str(78000 + 7 * i),
                "label": bare.lower().replace("something", "a cup"),
                "template": bare.replace("something", "[something]"),
                "placeholders": ["a cup"],
            }
        )
        if i not in absent:
            write_video(root / "20bn-something-something-v2" / f"{78000 + 7 * i}.webm", i)
    split = videos - videos // 4
    test = rows[-4:]
    parts = {
        "train": rows[:split],
        "validation": rows[split:-4],
        "test": [{"id": row["id"]} for row in test],
        "labels": SSV2_CLASSES,
    }
    for name, content in parts.items():
        (root / "labels" / f"{name}.json").write_text(json.dumps(content))
    answers = "".join(f"{row['id']};{names[i % len(names)]}\n" for i, row in enumerate(rows) if row in test)
    (root / "labels" / "test-answers.csv").write_text(answers)
    return root


def kinetics(root: Path, videos: int = 40, absent: Sequence[int] = (5, 17)) -> Path:
    """annotations/*.csv, and train/ and val/ with YouTube's ids and the seconds of the clip; some have vanished."""
    classes = ("abseiling", "air drumming", "playing harmonica", "zumba")
    splits: dict[str, list[list[str]]] = {"train": [], "val": []}
    for i in range(videos):
        split = "val" if i % 5 == 4 else "train"
        name, start = f"-{i:03d}aBcDe_f"[:11], 3 * i
        splits[split].append([classes[i % 4], name, str(start), str(start + 10), split, "0"])
        if i not in absent:
            write_video(root / split / f"{name}_{start:06d}_{start + 10:06d}.mp4", i)
    (root / "annotations").mkdir()
    for split, rows in splits.items():
        with (root / "annotations" / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["label", "youtube_id", "time_start", "time_end", "split", "is_cc"])
            writer.writerows(rows)
    return root


def ucf101(root: Path, videos: int = 40, absent: Sequence[int] = ()) -> Path:
    """UCF-101/CLASS/v_CLASS_gNN_cNN.avi and ucfTrainTestlist/, whose lines end in CRLF as the originals' do."""
    lists: dict[str, list[str]] = {"trainlist01.txt": [], "testlist01.txt": []}
    for i in range(videos):
        label, group = CLASSES[i % 4], i // 4 + 1
        name = f"{label}/v_{label}_g{group:02d}_c01.avi"
        if i not in absent:
            write_video(root / "UCF-101" / name, i)
        if group % 4:
            lists["trainlist01.txt"].append(f"{name} {i % 4 + 1}")
        else:
            lists["testlist01.txt"].append(name)
    lists["classInd.txt"] = [f"{i} {name}" for i, name in enumerate(CLASSES, 1)]
    (root / "ucfTrainTestlist").mkdir(parents=True)
    for name, lines in lists.items():
        (root / "ucfTrainTestlist" / name).write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    return root


def hmdb51(root: Path, videos: int = 40, absent: Sequence[int] = ()) -> Path:
    """hmdb51_org/CLASS/NAME.avi and a list for each class, in which 1 is train, 2 test and 0 neither."""
    classes = ("brush_hair", "cartwheel", "catch", "wave")
    lists: dict[str, list[str]] = {name: [] for name in classes}
    for i in range(videos):
        label = classes[i % 4]
        name = f"April_{i:02d}_{label}_u_nm_np1_ba_goo_0.avi"
        if i not in absent:
            write_video(root / "hmdb51_org" / label / name, i)
        lists[label].append(f"{name} {(1, 1, 2, 1, 0)[i // 4 % 5]} ")
    (root / "testTrainMulti_7030_splits").mkdir(parents=True)
    for label, lines in lists.items():
        path = root / "testTrainMulti_7030_splits" / f"{label}_test_split1.txt"
        path.write_text("".join(f"{line}\n" for line in lines))
    return root


FAKES: dict[str, Callable[..., Path]] = {
    "something_something_v2": something_something_v2,
    "kinetics": kinetics,
    "ucf101_videos": ucf101,
    "hmdb51": hmdb51,
}

if __name__ == "__main__":
    for data_set, make in FAKES.items():
        print(make(Path(sys.argv[1]) / data_set))
