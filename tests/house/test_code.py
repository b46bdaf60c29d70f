"""The shape of the code: what ruff, mypy and import-linter do not look at."""

import ast
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePath

from tests.house.tree import Tree, listed

Function = ast.FunctionDef | ast.AsyncFunctionDef

MAX_LINES = 400
MAX_FUNCTION_LINES = 50

READS = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "getenv", "Popen", "check_output", "urlopen"}
"""Calls that are I/O whatever they are called on."""

HOMES = {
    "aiokafka": ("workers/heimdall_fleet/kafka/driver/",),
    "confluent_kafka": ("workers/heimdall_fleet/kafka/",),
    "onnxruntime": (),
    "lightgbm": (),
    "duckdb": (),
    "httpx": (),
    "httpx_aiohttp": (),
    "redis": (),
}
"""Third parties that one module each may import; named here are the packages that stand for one module."""


def functions(nodes: Iterable[ast.AST]) -> Iterator[Function]:
    return (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: neither the bodies of functions nor `if __name__ == "__main__"`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "__name__" in ast.dump(child.test):
            continue
        yield child
        yield from at_import(child)


def name_of(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def test_no_file_is_longer_than_a_few_screens(tree: Tree) -> None:
    sizes = {path: tree.text(path).count("\n") for path in tree.modules}
    found = [f"{path}: {size} lines" for path, size in sizes.items() if size > MAX_LINES]
    assert not found, listed(found, f"a file has at most {MAX_LINES} lines; split it by what changes together")


def test_no_function_is_longer_than_a_screen_and_half_are_shorter_than_ten_lines(tree: Tree) -> None:
    sizes = {
        f"{path}:{node.lineno} {node.name}": length(node)
        for path, nodes in tree.nodes.items()
        if not path.startswith("tests/")
        for node in functions(nodes)
    }
    found = [f"{where}: {size} lines" for where, size in sizes.items() if size > MAX_FUNCTION_LINES]
    assert not found, listed(found, f"a function has at most {MAX_FUNCTION_LINES} lines")
    assert statistics.median(sizes.values()) <= 10


def test_nothing_is_declared_global(tree: Tree) -> None:
    found = [
        f"{path}:{node.lineno}" for path, nodes in tree.nodes.items() for node in nodes if isinstance(node, ast.Global)
    ]
    assert not found, listed(found, "no `global`: pass the value, or keep it in an object")


def test_no_broad_except_is_silent(tree: Tree) -> None:
    """`contextlib.suppress(Exception)` is a silent broad except too."""
    found = []
    for path, nodes in tree.nodes.items():
        for node in nodes:
            if isinstance(node, ast.ExceptHandler) and broad(node.type) and all(map(says_nothing, node.body)):
                found.append(f"{path}:{node.lineno}: except without a word")
            if isinstance(node, ast.Call) and name_of(node) == "suppress" and any(map(broad, node.args)):
                found.append(f"{path}:{node.lineno}: suppress")
    assert not found, listed(found, "a broad except stands only in a worker's outermost loop, where it logs and counts")


def broad(kind: ast.expr | None) -> bool:
    return kind is None or getattr(kind, "id", "") in ("Exception", "BaseException")


def says_nothing(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass | ast.Continue) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def test_importing_a_module_reads_nothing(tree: Tree) -> None:
    found = []
    for path, module in tree.shipped():
        if path.endswith("__main__.py"):
            continue
        for node in at_import(module):
            if isinstance(node, ast.Call) and name_of(node) in READS:
                found.append(f"{path}:{node.lineno}: {name_of(node)}()")
            if isinstance(node, ast.Attribute) and node.attr == "environ":
                found.append(f"{path}:{node.lineno}: the environment")
    assert not found, listed(found, "no I/O and no environment at import: do it in a function that somebody calls")


def test_a_third_party_without_types_is_imported_in_one_place(tree: Tree) -> None:
    importers: dict[str, set[str]] = defaultdict(set)
    for path, _ in tree.shipped():
        for name in imported(tree.nodes[path]) & set(HOMES):
            if not path.startswith(HOMES[name] or ("\0",)):
                importers[name].add(path)
    found = [
        f"{name}: {', '.join(sorted(paths))}"
        for name, paths in importers.items()
        if len(paths) > (0 if HOMES[name] else 1)
    ]
    assert not found, listed(found, "one module imports it, the others call that module's typed functions")


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Top names of what a module imports, anywhere in it."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_every_test_asserts_something(tree: Tree) -> None:
    found = [
        f"{path}:{node.lineno} {node.name}"
        for path, nodes in tree.nodes.items()
        if path.startswith("tests/")
        for node in functions(nodes)
        if node.name.startswith("test_") and not any(map(asserts, ast.walk(node)))
    ]
    assert not found, listed(found, "a test that asserts nothing passes whatever the code does")


def asserts(node: ast.AST) -> bool:
    """An assert statement, `pytest.raises`, or a helper that says by its name that it checks."""
    if isinstance(node, ast.Call):
        name = name_of(node)
        return name in ("raises", "warns", "fail") or name.startswith(("assert", "check", "expect"))
    return isinstance(node, ast.Assert)


def test_no_work_is_left_for_later(tree: Tree) -> None:
    marks = ("TODO", "FIXME", "XXX", "HACK")
    found = [
        f"{path}:{number}: {mark}"
        for path in tree.modules
        if any(mark in tree.text(path) for mark in marks)
        for number, line in enumerate(tree.text(path).splitlines(), 1)
        for mark in marks
        if f"# {mark}" in line or f"{mark}:" in line
    ]
    assert not found, listed(found, "real or not at all: do it now, or open an issue")


def test_no_module_imports_one_that_imports_it(tree: Tree) -> None:
    own = {".".join(PurePath(path).with_suffix("").parts[1:]): path for path, _ in tree.shipped()}
    graph = {name: modules_named(tree.nodes[path]) & own.keys() for name, path in own.items()}
    circle: list[str] = []
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert not circle, listed(
        circle, "each of these is imported by the next: give what they share to a module of its own"
    )


def modules_named(nodes: Iterable[ast.AST]) -> set[str]:
    """What is imported, also inside functions: modules, and names that may be modules of a package."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found
