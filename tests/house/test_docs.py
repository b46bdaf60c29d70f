"""The pages: they name only what exists."""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import PurePosixPath

from tests.house.tree import Tree, listed

BASES = (
    "",
    "schemas",
    "schemas/heimdall_schemas",
    "models",
    "models/heimdall_models",
    "workers",
    "workers/heimdall_fleet",
    "deploy",
    "tests",
    "docs",
)
"""Where a path in a page may begin, besides the page's own folder."""

CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.{},*-]+(?:/[\w.{},*-]+)*/?")
LINK = re.compile(r"\]\(([^)\s]+)\)")
SUFFIXES = {".py", ".md", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".sh", ".onnx"}
PLACEHOLDER = re.compile(r"(^|/)(?!README|ARCHITECTURE|CHANGELOG|CONTRIBUTING|MODEL_CARD)[A-Z]{3,}(\.|/|$)")


def pages(tree: Tree) -> list[str]:
    return [path for path in tree.files if path.endswith(".md")]


def braced(path: str) -> list[str]:
    """`a/{b,c}.py` as `a/b.py` and `a/c.py`."""
    parts = [part.strip("{}").split(",") if part.startswith("{") else [part] for part in re.split(r"(\{[^}]*\})", path)]
    return ["".join(chosen) for chosen in product(*parts)]


def named_paths(text: str, tops: set[str]) -> Iterator[str]:
    """Code that reads as a path: below a top folder, or a Python file by its name."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for code in CODE.findall(prose):
        if not PATH.fullmatch(code) or PLACEHOLDER.search(code):
            continue
        path = PurePosixPath(code)
        below_top = "/" in code and path.parts[0] in tops
        if below_top or (path.suffix in SUFFIXES and "/" in code) or path.suffix == ".py":
            yield from braced(code)


def exists(tree: Tree, page: str, path: str) -> bool:
    if path.endswith(".py") and "/" not in path:
        return any(PurePosixPath(file).name == path for file in tree.files)
    bases = [*BASES, PurePosixPath(page).parent.as_posix()]
    return any(any((tree.root / base).glob(path.rstrip("/"))) for base in bases)


def test_every_path_in_a_page_exists(tree: Tree) -> None:
    tops = {path.partition("/")[0] for path in tree.files if "/" in path}
    found = [
        f"{page}: {path}"
        for page in pages(tree)
        for path in named_paths(tree.text(page), tops)
        if not exists(tree, page, path)
    ]
    assert not found, listed(found, "a page names a path that is not there")


def test_every_relative_link_leads_somewhere(tree: Tree) -> None:
    found = [
        f"{page}: {link}"
        for page in pages(tree)
        for link in LINK.findall(tree.text(page))
        if not link.startswith(("http://", "https://", "mailto:", "#"))
        if not (tree.root / page).parent.joinpath(link.partition("#")[0]).exists()
    ]
    assert not found, listed(found, "a link leads nowhere")


def test_every_anchor_in_a_link_is_a_heading(tree: Tree) -> None:
    found = []
    for page in pages(tree):
        for link in LINK.findall(tree.text(page)):
            target, _, anchor = link.partition("#")
            path = (tree.root / page).parent / target if target else tree.root / page
            if anchor and not link.startswith("http") and path.suffix == ".md" and path.exists():
                found += [f"{page}: {link}"] if anchor not in anchors(path.read_text(encoding="utf-8")) else []
    assert not found, listed(found, "a link's anchor is no heading of that page")


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_the_changelog_has_a_place_for_the_next_change(tree: Tree) -> None:
    assert re.search(r"^## \[?Unreleased\]?", tree.text("CHANGELOG.md"), flags=re.MULTILINE)
