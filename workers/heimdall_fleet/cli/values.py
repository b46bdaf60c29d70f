"""Option types."""

from datetime import UTC, datetime, timedelta

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


def moment(text: str) -> datetime:
    """`2026-11-21` or `2026-11-21T12:00:00Z`; UTC where no zone is named. Raises click.BadParameter."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time; write 2026-11-21 or 2026-11-21T12:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


class Stretch(click.ParamType[timedelta | datetime]):
    """The end of a log: how long it is (`7d`), or when it begins (`2026-11-21T12:00:00Z`)."""

    name = "stretch"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta | datetime:
        text = str(value)
        return moment(text) if text[:4].isdecimal() and "-" in text else DURATION.convert(value, param, ctx)


STRETCH = Stretch()
