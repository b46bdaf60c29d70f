"""The tree as the house tests see it: every file that is, or would be, committed."""

import ast
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, repr=False)
class Tree:
    """`files` are paths below `root`; `modules` the parsed Python files among them, `nodes` every node of each."""

    root: Path
    files: tuple[str, ...]
    modules: Mapping[str, ast.Module]
    nodes: Mapping[str, tuple[ast.AST, ...]]

    def shipped(self) -> Iterator[tuple[str, ast.Module]]:
        """The modules of the three packages."""
        for path, module in self.modules.items():
            if path.startswith(("schemas/", "models/", "workers/")):
                yield path, module

    def text(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8")


def read_tree() -> Tree:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    files = tuple(sorted(path for path in set(listed) if (ROOT / path).is_file()))
    modules = {path: ast.parse((ROOT / path).read_text(encoding="utf-8")) for path in files if path.endswith(".py")}
    return Tree(ROOT, files, modules, {path: tuple(ast.walk(module)) for path, module in modules.items()})


def listed(findings: list[str], mend: str) -> str:
    """The way to mend it, and one line for each finding."""
    return "\n".join([mend, *findings])
