"""Which room may import which: docs/ARCHITECTURE.md, read off the syntax tree."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "mgmae_jax"

# The rooms, each with what it may import beside `errors` and itself. Only commands import interop, show,
# ablate and plan; plan counts operations by bench.
MAY_IMPORT = {
    "errors": (),
    "ops": (),
    "runtime": (),
    "data": ("ops", "runtime"),
    "datasets": ("ops", "runtime", "data"),
    "masking": ("ops", "runtime"),
    "flow": ("ops", "runtime"),
    "models": ("ops", "runtime"),
    "evaluate": ("ops", "runtime", "data", "datasets", "models"),
    "train": ("ops", "runtime", "data", "datasets", "masking", "flow", "models", "evaluate"),
    "probe": ("ops", "runtime", "data", "datasets", "models", "evaluate", "train"),
    "interop": ("runtime", "flow", "models"),
    "show": ("ops", "runtime", "data", "datasets"),
    "bench": ("ops", "runtime", "data", "datasets", "masking", "flow", "models", "train"),
    "plan": ("ops", "runtime", "flow", "train", "bench"),
    "ablate": ("runtime", "data", "datasets", "evaluate", "train"),
    "configs": (),
    "commands": (
        "configs", "ops", "runtime", "data", "datasets", "masking", "flow", "models", "evaluate", "train", "probe",
        "interop", "show", "bench", "plan", "ablate",
    ),
    "cli": ("runtime",),
}  # fmt: skip
# What worker processes import must load quickly and use no device.
WITHOUT_JAX = (
    "data", "datasets.flow_pairs", "datasets.motion_shapes", "ops.imagenet", "ops.pairs", "runtime.files",
    "runtime.paths",
)  # fmt: skip
HEAVY = {"jax", "jaxlib", "flax", "optax", "orbax"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = (PACKAGE, *parts) if parts[0] == "configs" else parts  # which lies beside the package
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for room in (PACKAGE, "configs") for path in sorted((ROOT / room).rglob("*.py"))}


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Full names of the modules that one imports, wherever in its text."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative import in line {node.lineno}"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in inner}
    return frozenset(found)


def inside(module: str, places: set[str] | tuple[str, ...]) -> bool:
    return any(f"{module}.".startswith(f"{PACKAGE}.{place}.") for place in places)


def test_every_room_has_a_rule():
    assert {name.split(".")[1] for name in MODULES if name != PACKAGE} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_go_one_way(room: str):
    allowed = {*MAY_IMPORT[room], room, "errors"}
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        if inside(module, (room,))
        for name in imports(module)
        if name.startswith(f"{PACKAGE}.") and not inside(name, allowed)
    ]
    assert not wrong


def test_configs_import_only_ml_collections_and_each_other():
    outside = {name for module in MODULES if inside(module, ("configs",)) for name in imports(module)}
    assert {name for name in outside if not inside(name, ("configs",))} == {"ml_collections", "typing"}


def test_worker_processes_import_no_jax():
    wrong = []
    for start in MODULES:
        if not inside(start, WITHOUT_JAX):
            continue
        reached, waiting = set(), [start]
        while waiting:
            module = waiting.pop()
            if module not in reached:
                reached.add(module)
                waiting += [name for name in imports(module) if name in MODULES]
                wrong += [
                    f"{start} through {module}: {name}" for name in imports(module) if name.split(".")[0] in HEAVY
                ]
    assert not wrong


def test_files_are_short_and_named_for_what_they_hold():
    python = [path for folder in (PACKAGE, "tests", "configs") for path in (ROOT / folder).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in python}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}
    assert not [name for name in lengths if Path(name).stem in ("utils", "util", "helpers", "misc", "common_utils")]
