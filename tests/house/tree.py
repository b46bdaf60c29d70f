"""The tree as the house tests see it: every file that is, or would be, committed."""

import ast
import gc
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, repr=False)
class Tree:
    """`files` are paths below `root`."""

    root: Path
    files: tuple[str, ...]

    @cached_property
    def modules(self) -> Mapping[str, ast.Module]:
        """The Python files among them, parsed. Millions of nodes that stay, so the collector shall not look at them again and
        again, now or in the tests that follow."""
        gc.disable()
        try:
            return {path: ast.parse(self.text(path)) for path in self.files if path.endswith(".py")}
        finally:
            gc.freeze()
            gc.enable()

    @cached_property
    def nodes(self) -> Mapping[str, tuple[ast.AST, ...]]:
        """Every node of each."""
        return {path: tuple(ast.walk(module)) for path, module in self.modules.items()}

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
    return Tree(ROOT, tuple(sorted(path for path in set(listed) if (ROOT / path).is_file())))


def listed(findings: list[str], mend: str) -> str:
    """The way to mend it, and one line for each finding."""
    return "\n".join([mend, *findings])
