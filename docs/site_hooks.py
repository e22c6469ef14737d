"""What the documentation's site adds to the pages in docs/: the README, files that pages link to, and the reference.

Pages are written to be read in the repository, too, so their links go from file to file. Here a link to a file outside
docs/ becomes one to a copy of it in the site.
"""

import importlib.util
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mgmae_jax"
_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the start page, the reference, and a copy of every file that a page links to."""
    pages = {"index.md": (ROOT / "README.md", (ROOT / "README.md").read_text())}
    pages |= {file.src_uri: (Path(file.abs_src_path), file.content_string) for file in files if _is_page(file)}
    files.append(File.generated(config, "index.md", content=pages["index.md"][1]))
    for name, content in _reference().items():
        files.append(File.generated(config, name, content=content))
    for origin, content in pages.values():
        for link in _LINK.findall(content):
            path = (origin.parent / link).resolve()
            if path.is_relative_to(ROOT / "docs") or path == ROOT / "README.md" or path.is_dir():
                continue
            if not path.exists():
                raise PluginError(f"{origin.relative_to(ROOT)}: the link {link} leads to no file")
            if (uri := _copy_of(path)) not in files.src_uris:
                files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Checks that the pages of docs/ are all in the navigation."""
    listed = {page.file.src_uri for page in nav.pages}
    if left := sorted(file.src_uri for file in files if _is_page(file) and file.src_uri not in listed):
        raise PluginError(f"mkdocs.yml: {', '.join(left)}: not in nav; add a line")
    return nav


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the reference to the navigation."""
    config.nav.append({"Reference": [{_title(name): name} for name in _reference()]})
    return config


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links to files outside docs/ to their copies in the site."""
    origin = ROOT if page.file.src_uri == "index.md" else ROOT / "docs"
    here = posixpath.dirname(page.file.src_uri)

    def replaced(link: re.Match[str]) -> str:
        path = (origin / here / link[1]).resolve()
        if path == ROOT / "README.md":
            uri = "index.md"
        elif path.is_relative_to(ROOT / "docs"):
            uri = path.relative_to(ROOT / "docs").as_posix()
        elif path.is_dir():
            uri = _of_folder(path)
        else:
            uri = _copy_of(path)
        return posixpath.relpath(uri, here or ".")

    return _LINK.sub(replaced, markdown)


def _is_page(file: File) -> bool:
    return file.src_uri.endswith((".md", ".ipynb")) and file.generated_by is None


def _copy_of(path: Path) -> str:
    """Where the site has a file of the repository; as text, which browsers show."""
    return f"source/{path.relative_to(ROOT).as_posix()}" + ("" if path.suffix in (".png", ".gif") else ".txt")


def _of_folder(path: Path) -> str:
    """The page for a folder: the reference of its room, where it is one."""
    room = path.relative_to(ROOT).parts
    return f"reference/{room[1]}.md" if room[0] == PACKAGE.name and len(room) > 1 else "reference/index.md"


def _title(name: str) -> str:
    return "Rooms" if name == "reference/index.md" else Path(name).stem


def _reference() -> dict[str, str]:
    """A page for each room of the package with the docstrings of its modules, and one that lists the rooms."""
    rooms = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))
    pages = {}
    lines = [
        "# Reference\n",
        "The rooms of the package. [How it works](../ARCHITECTURE.md) says what passes between them.\n",
    ]
    for room in rooms:
        modules = sorted(path for path in room.rglob("*.py") if path.name != "__init__.py")
        names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules]
        pages[f"reference/{room.name}.md"] = "\n".join([f"# {room.name}\n", *(f"::: {name}\n" for name in names)])
        lines.append(f"- [{room.name}]({room.name}.md): {_summary(room / '__init__.py')}")
    return {"reference/index.md": "\n".join(lines) + "\n"} | pages


def _summary(path: Path) -> str:
    """The first line of a module's docstring."""
    code = importlib.util.spec_from_file_location("room", path).loader.get_code("room")
    return (code.co_consts[0] or "").split("\n")[0]
