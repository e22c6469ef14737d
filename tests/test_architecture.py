"""docs/ARCHITECTURE.md says what the code says: its map, its law of imports and the way from the command to the loss.

`python tests/test_architecture.py` writes the map and the law anew.
"""

import ast
import re
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from mgmae_jax.masking.mask_input import MaskInput, MaskOptions
from mgmae_jax.masking.strategies import STRATEGIES, draw_mask
from mgmae_jax.ops.tokens import TokenGrid

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mgmae_jax"
PAGE = ROOT / "docs" / "ARCHITECTURE.md"
_MOST_FUNCTIONS, _MOST_FILES = 7, 5


def first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def the_map() -> str:
    """Every module with the first paragraph of its docstring, room by room."""
    lines = []
    for folder in (PACKAGE, *sorted(path.parent for path in PACKAGE.rglob("*/__init__.py"))):
        if folder != PACKAGE:
            lines.append(f"\n**{folder.relative_to(PACKAGE)}**: {first_line(folder / '__init__.py')}\n")
        modules = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
        lines += [f"- [{path.name}](../{path.relative_to(ROOT)}): {first_line(path)}" for path in modules]
    return "\n".join(lines)


def the_law() -> str:
    """Which room may import which, as `tests/test_imports.py` has it."""
    tree = ast.parse((ROOT / "tests" / "test_imports.py").read_text(encoding="utf-8"))
    assigned = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    law = ast.literal_eval(assigned["MAY_IMPORT"])
    width = max(map(len, law))
    return "\n".join(["```", *(f"{room:{width}}  {' '.join(allowed) or '-'}" for room, allowed in law.items()), "```"])


BLOCKS = {"map": the_map, "law": the_law}


def block(name: str) -> re.Pattern:
    return re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_page_shows_what_the_code_has(name: str):
    found = block(name).search(PAGE.read_text(encoding="utf-8"))
    assert found, f"docs/ARCHITECTURE.md has no block {name!r}"
    shown = found[0].removeprefix(found[1]).removesuffix(found[2])
    assert shown == BLOCKS[name](), "run python tests/test_architecture.py"


def the_way() -> list[tuple[str, str]]:
    """(file, function) of each row of the page's way from the command to the loss."""
    section = PAGE.read_text(encoding="utf-8").split("## From `mgmae pretrain` to the loss")[1].split("\n## ")[0]
    return re.findall(r"^\d+\. `([\w.]+)` in \[[\w./]+\]\(\.\./(mgmae_jax/[\w/]+\.py)\)", section, re.MULTILINE)


def test_the_way_to_the_loss_is_short_and_there():
    way = the_way()
    assert (way[0][0], way[-1][0]) == ("main", "Pretraining.loss")
    assert len(way) <= _MOST_FUNCTIONS
    assert len({file for _, file in way}) <= _MOST_FILES
    bodies = [body_of(file, function) for function, file in way]
    for (function, file), body, (following, _) in zip(way, bodies, way[1:], strict=False):
        name = following.rpartition(".")[2]
        # The command is imported by its name; every other step names the next.
        found = "importlib" in body if file == "mgmae_jax/cli.py" else re.search(rf"\b{name}\b", body)
        assert found, f"{file}:{function} does not mention {name}"


def body_of(file: str, function: str) -> str:
    nodes: list[ast.AST] = [ast.parse((ROOT / file).read_text(encoding="utf-8"))]
    for name in function.split("."):
        nodes = [child for child in ast.iter_child_nodes(nodes[0]) if getattr(child, "name", None) == name]
        assert nodes, f"{file} has no {function}"
    return ast.unparse(nodes[0])


def test_links_lead_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def python_blocks(page: str) -> list[str]:
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [block for block in blocks if not block.startswith("# ")]  # one that is a file of the reader's own


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_python_of_the_readme_runs():
    (block,) = python_blocks("README.md")
    names: dict[str, Any] = {}
    small = block.replace("224", "64").replace("(16, 64, 64", "(4, 64, 64").replace("clip, 8)", "clip, 2)")
    exec(compile(small, "README", "exec"), names)
    assert names["flow"].shape == (3, 64, 64, 2)
    assert names["split"].visible.shape == (2,)


@pytest.mark.slow
def test_the_python_of_the_architecture_runs():
    new_strategy, notebook = python_blocks("docs/ARCHITECTURE.md")
    before = dict(STRATEGIES)
    try:
        exec(compile(new_strategy, "ARCHITECTURE", "exec"), {})
        grid, clip = TokenGrid(4, 64, 64), jnp.zeros((4, 64, 64, 3), jnp.uint8)
        ask = MaskInput(jax.random.key(0), grid, MaskOptions(strategy="brightest", ratio=0.5), clip)
        assert draw_mask(ask).visible.shape == (16,)
    finally:
        STRATEGIES.clear()
        STRATEGIES.update(before)
    names: dict[str, Any] = {"flow": jnp.zeros((15, 224, 224, 2))}
    exec(compile(notebook, "ARCHITECTURE", "exec"), names)
    assert names["volume"].shape == (16, 224, 224)
    assert (names["split"].visible.shape, names["split"].target.shape) == ((152,), (1416,))


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    for block_name, make in BLOCKS.items():
        text = block(block_name).sub(lambda found, make=make: found[1] + make() + found[2], text)
    PAGE.write_text(text, encoding="utf-8")
    print(f"wrote {PAGE}", file=sys.stderr)
