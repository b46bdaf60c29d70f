"""The root command: global options, commands that are imported only when they run, and the exit codes.

0 ok · 1 a gate or check failed · 2 usage or invalid configuration · 3 broker, state or provider unreachable ·
4 not found · 5 deadline passed · 70 a bug · 130 interrupted
"""

import os
import sys
from importlib import import_module
from pathlib import Path

import click

from heimdall_fleet import __version__
from heimdall_fleet.cli.exits import Exit, exit_code_of, explain
from heimdall_fleet.cli.globals import Globals

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("heimdall_fleet.cli.demo:demo", "the whole path on the embedded broker, with an outage in the middle"),
    "demo-learning": (
        "heimdall_fleet.cli.demo_learning:demo_learning",
        "the learning loop in a few minutes, with a change",
    ),
    "dev": ("heimdall_fleet.cli.dev:dev", "keep the same stack running until SIGINT or SIGTERM"),
    "triage": ("heimdall_fleet.cli.workers:triage", "one triage worker, for production"),
    "dispatch": ("heimdall_fleet.cli.workers:dispatch", "one dispatch worker, for production"),
    "topics": ("heimdall_fleet.cli.topics:topics", "plan, create or check the topics from the one table"),
    "submit": ("heimdall_fleet.cli.submit:submit", "requests as JSON lines in, replies as JSON lines out"),
    "tail": ("heimdall_fleet.cli.tail:tail", "decoded records of a topic, one a line"),
    "explain": ("heimdall_fleet.cli.explain:explain", "why this model: features, scores, guardrails, attempts, cost"),
    "summary": ("heimdall_fleet.cli.summary:summary", "the demo's closing block again, from an audit file"),
    "decide": ("heimdall_fleet.cli.decide:decide", "decisions for request lines, offline, no Kafka"),
    "replay": ("heimdall_fleet.cli.replay:replay", "audit and feedback to a Parquet data set, resumable"),
    "feedback": ("heimdall_fleet.cli.feedback:feedback", "say what an answer was worth"),
    "train": ("heimdall_fleet.cli.train:train", "outcome tables to a bundle with a model card"),
    "evaluate": ("heimdall_fleet.cli.train:evaluate", "how good a bundle is on outcome tables, with intervals"),
    "learn": (
        "heimdall_fleet.cli.learn:learn",
        "replay, train, compare, promote what is proven better: one turn",
    ),
    "promote": ("heimdall_fleet.cli.promote:promote", "let a bundle decide in the whole fleet, if it passes its gates"),
    "bundles": ("heimdall_fleet.cli.bundles:bundles", "list, show and compare bundles; aliases and rollback"),
    "dlq": ("heimdall_fleet.cli.dlq:dlq", "list, show, redrive and discard dead letters"),
    "providers": ("heimdall_fleet.cli.providers:providers", "the configured providers, and whether they answer"),
    "keys": ("heimdall_fleet.cli.providers:keys", "the configured keys, by name"),
    "config": ("heimdall_fleet.cli.config:group", "lint, show, init and the schema of heimdall.yaml"),
}


GLOBAL_OPTIONS = ("--config", "--bootstrap", "-o", "--output", "--log-format")


def hoist(args: list[str]) -> list[str]:
    """Global options may stand after the command too: `heimdall dev --bootstrap HOST:PORT`.

    >>> hoist(["demo", "--seed", "1", "-o", "json"])
    ['-o', 'json', 'demo', '--seed', '1']
    """
    front: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            return [*front, *rest, word, *words]
        if word in GLOBAL_OPTIONS:
            front += [word, *([value] if (value := next(words, None)) is not None else [])]
        elif word.startswith(tuple(f"{name}=" for name in GLOBAL_OPTIONS if name.startswith("--"))):
            front.append(word)
        else:
            rest.append(word)
    return [*front, *rest]


class Lazy(click.Group):
    """A group whose commands are imported when they run, so that `submit` never loads the classifier."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, hoist(args))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="heimdall")
@click.option("--config", type=click.Path(path_type=Path), envvar="HEIMDALL_CONFIG", help="Default: heimdall.yaml.")
@click.option("--bootstrap", metavar="HOST:PORT", help="Kafka to use, over kafka.bootstrap_servers.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="json: data on stdout only.")
@click.option("--log-format", type=click.Choice(["json", "text"]), help="Over observe.log_format.")
@click.pass_context
def cli(ctx: click.Context, config: Path | None, bootstrap: str | None, output: str, log_format: str | None) -> None:
    """Durable LLM work from Kafka: accepted means answered, and every decision replayable.

    \b
    Example:
      heimdall demo
      echo '{"messages": [{"role": "user", "content": "hi"}]}' | heimdall --bootstrap localhost:9092 submit
    """
    ctx.obj = Globals(config, bootstrap, "json" if output == "json" else "text", log_format)


def run(arguments: list[str] | None = None) -> int:
    """Run one command and turn whatever ends it into a documented exit code with one clear message."""
    try:
        cli.main(args=arguments, prog_name="heimdall", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as problem:
        problem.show(file=sys.stderr)
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except BrokenPipeError:  # `heimdall tail … | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except Exception as error:  # noqa: BLE001 - the outermost edge of the process: every error gets a code and a text
        print(explain(error), file=sys.stderr)
        return exit_code_of(error)
    return Exit.OK
