"""httpx without its command line, which a worker would hold in memory for nothing: rich, pygments and click, 3 MiB."""

import sys

# httpx does without it, as it does where rich is not installed: `import httpx._main` raises an ImportError now.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # None is how the import system is told so

import httpx  # noqa: E402  # after that

__all__ = ["httpx"]
