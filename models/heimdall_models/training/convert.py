"""Public result files → outcome tables.

    python -m heimdall_models.training.convert routellm --out routellm_mmlu.jsonl --bench mmlu mmlu_*.csv
    python -m heimdall_models.training.convert mmlu-pro --out mmlu_pro.jsonl gpt-4o=biology.json …
    python -m heimdall_models.training.convert rows --score small=a.ok --score large=b.ok --out mine.jsonl mine.csv

Files are CSV, JSON lines or one JSON array of objects. There are three kinds of layout: a row that holds the score of
every model (`routellm`, `gsm8k`, `rows`), a row that holds the given and the right answer of one (`mmlu-pro`, `zeroeval`,
`answers`), and a row that holds a judge's score of one (`alpaca-eval`, `fastchat`). Where a row does not name
its model, the file does: NAME=FILE, or NAME is the file's name. A field is a path of names and numbers with dots between;
a string that holds JSON or a Python list is looked into. Answers are compared, never copied.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import orjson

from heimdall_models.training.tables import SCORE, TableError


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a row says what; empty = not there.

    `scores`: model → path, for rows with every model's score; with none of them, no `given` and no `score`, every column
    that holds only true and false is a model. `given`, `right`: paths of the two answers. `score`: path of one model's score.
    `model`: path of that model's name. `options`: list of answer options that belongs to the prompt. `scale`, `least`: what
    a full and what a worthless answer scores in the file; below the latter is how judges say that they have no score.
    `asked`: regular expression whose first group is what the prompt asks, where examples or instructions stand around it.
    """

    prompt: str = "prompt"
    key: str = ""
    domain: str = ""
    options: str = ""
    given: str = ""
    right: str = ""
    model: str = ""
    score: str = ""
    scores: Mapping[str, str] = field(default_factory=dict)
    scale: float = 1.0
    least: float = 0.0
    asked: str = ""


LAYOUTS: Mapping[str, Layout] = {
    "routellm": Layout(),
    "gsm8k": Layout(
        prompt="question",
        scores={
            name: f"{name}.is_correct"
            for name in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
        },
    ),
    "mmlu-pro": Layout(
        prompt="question", key="question_id", domain="category", options="options", given="pred", right="answer"
    ),
    "zeroeval": Layout(prompt="question", key="id", given="output.0.answer", right="answer"),
    "alpaca-eval": Layout(
        prompt="instruction", domain="dataset", model="generator_2", score="preference", scale=2.0, least=1.0
    ),
    "fastchat": Layout(
        prompt="turns.0", key="question_id", domain="category", model="model", score="score", scale=10.0, least=1.0
    ),
    "rows": Layout(),
    "answers": Layout(given="given", right="answer"),
}
"""Layouts of lm-sys/RouteLLM (one CSV for each MMLU subject, one for GSM8K), openai/grade-school-math
(example_model_solutions.jsonl), TIGER-AI-Lab/MMLU-Pro (eval_results), yuchenlin/ZeroEval (result_dirs),
tatsu-lab/alpaca_eval (annotations.json: 1 prefers the reference, 2 the model) and FastChat's judge (one score from 1 to 10
a turn; the questions are a file of their own), and two to be described with options."""

_TRUE, _FALSE = frozenset({"true", "1", "1.0"}), frozenset({"false", "0", "0.0"})
_SUBJECT = re.compile(r"^mmlu_(?P<subject>.+)$")
_LONGEST_FIELD = 100_000_000
_BRACKET = re.compile(r"[{\[]")
_GSM8K_MARK = re.compile(r"^#+\s|####")
_DECIMAL = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d{1,3})?")
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")

Row = dict[str, Any]


def convert(layout: Layout, inputs: Sequence[tuple[str, Path]], bench: str, questions: Sequence[Row] = ()) -> list[Row]:
    """Rows of an outcome table from (model name, file) pairs, one for each prompt, in order of first appearance.

    `questions`: objects whose fields a row has too if their `key` is that of the row. What a model scored on one prompt more
    than once becomes the mean. Raises TableError that names the file and the field that is missing.
    """
    if questions and not layout.key:
        raise TableError("questions join rows by their key: name its field with --key")
    asked = {str(at(question, layout.key)): question for question in questions}
    rows: dict[str, Row] = {}
    found: dict[str, dict[str, list[float]]] = {}
    for name, path in inputs:
        records = read_records(path)
        scores = _columns(layout, records, path)
        for own in records:
            record = asked.get(str(at(own, layout.key)), {}) | own
            row = _row(layout, record, path, bench)
            model = str(at(record, layout.model) or name) if layout.model else name
            rows.setdefault(row["pid"], row)
            for column, score in _scores(layout, scores, record, model).items():
                found.setdefault(row["pid"], {}).setdefault(column, []).append(score)
    return [row | {column: fmean(each) for column, each in found.get(pid, {}).items()} for pid, row in rows.items()]


def read_records(path: Path) -> list[Row]:
    """The objects of a CSV, JSON-lines or JSON file. Raises TableError."""
    try:
        if path.suffix == ".csv":
            csv.field_size_limit(_LONGEST_FIELD)
            with path.open(encoding="utf-8-sig", newline="") as file:
                return [dict(record) for record in csv.DictReader(file)]
        data = path.read_bytes()
        records = [orjson.loads(line) for line in data.splitlines() if line.strip()] if _is_lines(path) else None
        found = orjson.loads(data) if records is None else records
    except (OSError, UnicodeDecodeError, csv.Error, orjson.JSONDecodeError) as error:
        raise TableError(f"{path}: cannot be read as CSV, JSON lines or JSON ({error})") from error
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        raise TableError(f"{path}: it must hold a list of objects")
    return found


def at(value: Any, path: str) -> Any:
    """What stands at a dotted path; None where it does not exist. Strings that hold JSON or a Python list are looked
    into.

    A field whose whole name is the path goes first: names of models have dots, too.
    """
    if isinstance(value, Mapping) and path in value:
        return value[path]
    for step in path.split("."):
        if isinstance(value, str):
            value = _object_in(value, step)
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def same_answer(given: Any, right: Any) -> bool:
    """Equal as numbers, as Python literals, or as text without case and outer blanks; no answer is a wrong answer.

    A right answer with "#### 42" (or "# 42") at its end means 42, as GSM8K writes it; "42 miles" answers it, since it holds
    one number. A right answer that is a string in quotes may be given without them.
    """
    if given is None or right is None:
        return False
    left, expected = str(given).strip(), _GSM8K_MARK.split(str(right))[-1].strip()
    if left.casefold() == expected.casefold():
        return True
    if (number := _number(expected)) is not None:
        return (_number(left) if (only := _only_number(left)) is None else only) == number
    literal = _literal(expected)
    return literal is not None and literal in (left, _literal(left))


def write_jsonl(rows: Iterable[Row], out: Path) -> int:
    """One row a line; returns how many."""
    lines = [orjson.dumps(row) for row in rows]
    out.write_bytes(b"".join(line + b"\n" for line in lines))
    return len(lines)


def _row(layout: Layout, record: Row, path: Path, bench: str) -> Row:
    prompt = at(record, layout.prompt)
    if not isinstance(prompt, str):
        raise TableError(f"{path}: a row has no text at {layout.prompt!r}; its fields are {', '.join(record)}")
    if layout.asked and (part := re.search(layout.asked, prompt, re.DOTALL)):
        prompt = part[1]
    options = at(record, layout.options) if layout.options else None
    if isinstance(options, list):
        prompt += "".join(f"\n{chr(ord('A') + number)}. {text}" for number, text in enumerate(options))
    key = at(record, layout.key) if layout.key else None
    subject = _SUBJECT.match(path.stem)
    domain = at(record, layout.domain) if layout.domain else subject and subject["subject"]
    return {
        "pid": f"{bench}:{prompt if key is None else key}",
        "bench": bench,
        "domain": domain or "",
        "prompt": prompt,
    }


def _columns(layout: Layout, records: Sequence[Row], path: Path) -> Mapping[str, str]:
    if layout.given or layout.score:
        return {}
    scores = layout.scores or _model_columns(records, layout)
    if not scores:
        raise TableError(f"{path}: no column holds only true and false; name the scores with --score MODEL=FIELD")
    return scores


def _scores(layout: Layout, scores: Mapping[str, str], record: Row, model: str) -> dict[str, float]:
    if layout.given:
        return {SCORE + model: float(same_answer(at(record, layout.given), at(record, layout.right)))}
    paths = {model: layout.score} if layout.score else scores
    found = {name: _score(at(record, path)) for name, path in paths.items()}
    return {
        SCORE + name: (value - layout.least) / (layout.scale - layout.least)
        for name, value in found.items()
        if value is not None and value >= layout.least
    }


def _score(value: Any) -> float | None:
    text = str(value).strip().casefold()
    if text in _TRUE or text in _FALSE:
        return float(text in _TRUE)
    # "0,5" is one half where decimals have a comma, not 5.
    return float(text) if _DECIMAL.fullmatch(text) else None if "," in text else _number(text)


def _model_columns(records: Sequence[Row], layout: Layout) -> dict[str, str]:
    described = {layout.prompt, layout.key, layout.domain}
    columns = [name for name in dict.fromkeys(name for row in records for name in row) if name not in described]
    flags = {"true", "false"}
    return {c: c for c in columns if {str(row.get(c)).strip().casefold() for row in records} <= flags}


def _is_lines(path: Path) -> bool:
    return path.suffix in (".jsonl", ".ndjson")


def _object_in(text: str, name: str) -> Any:
    """The object or list in a model's output, whatever stands around it; where it is broken, its last field of that name."""
    start = _BRACKET.search(text)
    if start is not None:
        try:
            found = json.JSONDecoder(strict=False).raw_decode(text, start.start())[0]
        except (json.JSONDecodeError, RecursionError):
            found = None
        if isinstance(found, list) or (isinstance(found, dict) and name in found):
            return found
        if isinstance(literal := _literal(text.strip()), list):
            return literal
    fields = re.findall(rf'"{re.escape(name)}"\s*:\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,}}]+))', text)
    return {name: fields[-1][0] or fields[-1][1]} if fields else None


def _number(text: str) -> float | None:
    plain = text.strip().removeprefix("$").removesuffix("%").removesuffix(".").strip()
    return float(plain.replace(",", "")) if _NUMBER.fullmatch(plain) else None


def _only_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return _number(found[0]) if len(found) == 1 else None


def _literal(text: str) -> Any:
    try:
        # A model's answer may be any text; what Python would warn of in it concerns nobody.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _contaminated(path: Path | None) -> frozenset[str]:
    """Prompts to leave out: `eval_prompt` of each line, as RouteLLM's contaminated_prompts.jsonl has them."""
    return frozenset(str(record.get("eval_prompt")) for record in read_records(path)) if path else frozenset()


def _refuse_unscored(rows: Sequence[Row], named: Mapping[str, str], single: str) -> None:
    """Raises TableError for a field of scores that was named and holds none, such as a misspelt one."""
    scored = {column for row in rows for column in row if column.startswith(SCORE)}
    silent = [field for model, field in named.items() if SCORE + model not in scored]
    if single and not scored:
        silent.append(single)
    if silent:
        raise TableError(f"no row has a score, a number or true or false, at {', '.join(map(repr, silent))}")


def _inputs(files: Sequence[str]) -> list[tuple[str, Path]]:
    pairs = [file.partition("=") if "=" in file and not Path(file).exists() else ("", "", file) for file in files]
    return [(name or Path(file).stem, Path(file)) for name, _, file in pairs]


def _with_a_group(pattern: str) -> str:
    """The pattern. Raises ArgumentTypeError for one that finds no group."""
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{pattern!r} is no regular expression: {error}") from error
    if not groups:
        raise argparse.ArgumentTypeError(f"{pattern!r} has no group: put what is asked into parentheses")
    return pattern


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("layout", choices=sorted(LAYOUTS))
    parser.add_argument("files", nargs="+", metavar="[MODEL=]FILE")
    parser.add_argument("--out", type=Path, required=True, help="outcome table to write, .jsonl")
    parser.add_argument("--bench", help="name of the benchmark (default: the name of --out)")
    parser.add_argument(
        "--contaminated", type=Path, help="JSON lines whose `eval_prompt` rows are marked to be left out"
    )
    parser.add_argument("--questions", type=Path, help="file whose fields join the rows of the same key")
    for name in ("prompt", "key", "domain", "options", "given", "right", "model"):
        parser.add_argument(f"--{name}", help=f"field that holds the {name}")
    parser.add_argument(
        "--score",
        action="append",
        default=[],
        dest="fields",
        metavar="[MODEL=]FIELD",
        help="score of a model; without a name, of the row's or the file's",
    )
    parser.add_argument(
        "--asked", type=_with_a_group, metavar="REGEX", help="its first group is what of a prompt is asked"
    )
    parser.add_argument("--scale", type=float, help="what a full score is in the files (default 1)")
    parser.add_argument("--least", type=float, help="what a worthless answer scores in the files (default 0)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(
        prog="python -m heimdall_models.training.convert", description="Public result files to outcome tables."
    )
    _options(parser)
    options = parser.parse_args(arguments)
    given = {name: value for name in Layout.__slots__ if (value := getattr(options, name, None)) is not None}
    if named := dict(entry.split("=", 1) for entry in options.fields if "=" in entry):
        given["scores"] = named
    if single := [entry for entry in options.fields if "=" not in entry]:
        given["score"] = single[-1]
    layout = replace(LAYOUTS[options.layout], **given)
    if layout.scale <= layout.least:
        parser.error(f"--scale {layout.scale:g} is not above --least {layout.least:g}")
    try:
        rows = convert(
            layout,
            _inputs(options.files),
            options.bench or options.out.stem,
            read_records(options.questions) if options.questions else (),
        )
        _refuse_unscored(rows, named, layout.score)
        marked = _contaminated(options.contaminated)
        count = write_jsonl((row | {"contaminated": row["prompt"] in marked} for row in rows), options.out)
    except TableError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"--out: {options.out} cannot be written: {error.strerror}")
    print(f"{options.out}: {count} rows")


if __name__ == "__main__":
    main()
