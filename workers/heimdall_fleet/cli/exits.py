"""Exit codes, and which error leads to which."""

import traceback
from enum import IntEnum

from heimdall_fleet.config.issues import ConfigError
from heimdall_fleet.kafka.errors import KafkaFailure, UnknownTopic
from heimdall_fleet.report.audit_file import AuditFileError
from heimdall_fleet.stack.errors import StackError
from heimdall_schemas.failure import Failure, FailureCode


class Exit(IntEnum):
    OK = 0
    CHECK_FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    DEADLINE = 5
    BUG = 70
    INTERRUPTED = 130


class CommandError(Exception):
    """A command ends here, with a message for its user and an exit code."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code


_BAD_ARTIFACTS = frozenset({"BundleError", "CatalogueError", "QualityError"})
"""By name: their modules bring numpy and onnxruntime, which a command that only sends requests does without."""


def exit_code_of(error: Exception) -> Exit:
    """The exit code that an error leads to: its own `exit_code` where it has one; anything unknown is a bug (70)."""
    known = error.code if isinstance(error, CommandError) else getattr(error, "exit_code", None)
    if isinstance(known, int):
        return Exit(known)
    if isinstance(error, AuditFileError | ConfigError) or type(error).__name__ in _BAD_ARTIFACTS:
        return Exit.USAGE
    if isinstance(error, UnknownTopic):
        return Exit.NOT_FOUND
    if isinstance(error, KafkaFailure | StackError):
        return Exit.UNREACHABLE
    if isinstance(error, Failure) and error.code in (FailureCode.HEIMDALL_CONFIG, FailureCode.HEIMDALL_BUNDLE):
        return Exit.USAGE
    return Exit.BUG


def explain(error: Exception) -> str:
    """One message; a traceback only for a bug."""
    if exit_code_of(error) is not Exit.BUG:
        return f"heimdall: {error}"
    trace = "".join(traceback.format_exception(error))
    return f"{trace}\nheimdall: this is a bug; please report it with the text above"
