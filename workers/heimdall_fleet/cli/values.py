"""Option types."""

from datetime import timedelta

import click

from heimdall_fleet.config.units import parse_duration


class Duration(click.ParamType[timedelta]):
    """`25ms`, `30s`, `5m`; a bare number is seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        try:
            return parse_duration(value, "s")
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = Duration()
