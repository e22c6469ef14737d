"""A program in the place of `mgmae`: writes what a part's command would, and says in $FAKE/ran that it ran.

$FAKE/fail holds words: a command with one of them ends with status 1. $FAKE/wait has pipes, NAME.begun and NAME.go: a
command called NAME reports to the first and waits for the second. SIGTERM does not end it if there is $FAKE/stubborn.
"""

import json
import os
import signal
import sys
from pathlib import Path

STEPS = 3
GUESSES = {"network": 0.25, "mean_cube": 0.5}


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def report(accuracy: float) -> dict:
    interval = {"value": accuracy, "low": accuracy, "high": accuracy}
    classes = [{"name": "a", "videos": 10, "correct": round(10 * accuracy), "accuracy": accuracy}]
    return {
        "videos": 10, "top1": interval, "top5": interval, "mean_class": interval, "missing": [], "split": "s",
        "about": {}, "classes": classes,
    }  # fmt: skip


def main() -> int:
    fake, name = Path(os.environ["FAKE"]), sys.argv[1]
    if "--config.probe.encoder=random" in sys.argv:
        name = "random"
    if (fake / "stubborn").exists():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with (fake / "ran").open("a") as ran:  # short lines are appended whole
        ran.write(f"{' '.join([name, *sys.argv[2:]])}\n")
    print(f"this is {name}", os.environ.get("CUDA_VISIBLE_DEVICES", ""), flush=True)
    if (fake / "wait" / f"{name}.begun").exists():
        (fake / "wait" / f"{name}.begun").write_text("begun\n")
        (fake / "wait" / f"{name}.go").read_text()
    if (fake / "fail").exists() and any(word in " ".join(sys.argv) for word in (fake / "fail").read_text().split()):
        print("it cannot work")
        return 1
    if name in ("pretrain", "finetune"):
        workdir = Path(option("--workdir"))
        (workdir / "checkpoints" / str(STEPS)).mkdir(parents=True, exist_ok=True)
        seed = int(next(word for word in sys.argv if word.startswith("--config.seed=")).partition("=")[2])
        if name == "pretrain":
            (workdir / "guesses.json").write_text(json.dumps(GUESSES))
            (workdir / "metrics.jsonl").write_text('{"step": 1, "step_seconds": 2.0}\n')
        else:
            (workdir / "accuracy").mkdir(exist_ok=True)
            (workdir / "accuracy" / "metrics.jsonl").write_text(json.dumps({"step": STEPS, "top1": seed / 100}) + "\n")
    else:
        out = Path(option("--out"))
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(json.dumps(report(0.2 if name == "random" else 0.5)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
