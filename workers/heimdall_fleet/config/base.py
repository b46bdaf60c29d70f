"""What every section of the configuration shares."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of `heimdall.yaml`: frozen, strict about unknown keys, described by the docstring under each field."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        # Only the root's validator is ever used; building one for each section would double the memory.
        defer_build=True,
    )
