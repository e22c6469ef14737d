"""What `pip install .` installs."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def folders(root: Path, package: str) -> set[str]:
    """Every folder with something to install, as a package below `package`."""
    files = [path for path in root.rglob("*") if path.suffix in (".py", ".safetensors")]
    return {".".join([package, *path.parent.relative_to(root).parts]) for path in files}


def test_every_folder_is_installed():
    expected = folders(ROOT / "mgmae_jax", "mgmae_jax") | folders(ROOT / "configs", "mgmae_jax.configs")
    assert set(SETUPTOOLS["packages"]) == expected
    assert SETUPTOOLS["packages"] == sorted(SETUPTOOLS["packages"])
    assert SETUPTOOLS["package-dir"] == {"mgmae_jax.configs": "configs"}


def test_every_config_folder_is_a_package():
    python = {path.parent for path in (ROOT / "configs").rglob("*.py")}
    assert [folder for folder in python if not (folder / "__init__.py").is_file()] == []


def test_every_page_of_the_documentation_is_in_the_site_s_navigation():
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    pages = {path.name for path in (ROOT / "docs").iterdir() if path.suffix in (".md", ".ipynb")}
    assert {page for page in pages if f": {page}\n" not in listed} == set()
