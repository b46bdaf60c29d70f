import csv
import json
from pathlib import Path

import orjson
import pytest

from heimdall_models.training.convert import LAYOUTS, Layout, convert, main, read_records, same_answer
from heimdall_models.training.tables import TableError, read_table


def test_a_routellm_csv_gives_a_score_for_each_column_of_true_and_false(tmp_path: Path) -> None:
    path = tmp_path / "mmlu_virology.csv"
    path.write_text('prompt,small,large\n"How many?\nA. 1\nB. 2",True,False\n"And now?",False,True\n')
    rows = convert(LAYOUTS["routellm"], [("mmlu_virology", path)], "mmlu")
    assert [row["domain"] for row in rows] == ["virology", "virology"]
    assert [(row["s::small"], row["s::large"]) for row in rows] == [(1.0, 0.0), (0.0, 1.0)]
    assert rows[0]["prompt"] == "How many?\nA. 1\nB. 2"


def test_a_model_whose_name_has_a_dot_is_a_column_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("prompt,maker/Model-v0.1,large\nHow many?,True,False\n")
    (row,) = convert(LAYOUTS["routellm"], [("answers", path)], "exam")
    assert (row["s::maker/Model-v0.1"], row["s::large"]) == (1.0, 0.0)


def test_mmlu_pro_files_of_two_models_meet_in_one_row(tmp_path: Path) -> None:
    question = {"question_id": 7, "question": "Which?", "options": ["x", "y"], "answer": "B", "category": "law"}
    for name, pred in (("a", "B"), ("b", None)):
        (tmp_path / f"{name}.json").write_text(json.dumps([question | {"pred": pred, "response": "not copied"}]))
    (row,) = convert(LAYOUTS["mmlu-pro"], [(n, tmp_path / f"{n}.json") for n in "ab"], "mmlu_pro")
    assert row == {
        "pid": "mmlu_pro:7",
        "bench": "mmlu_pro",
        "domain": "law",
        "prompt": "Which?\nA. x\nB. y",
        "s::a": 1.0,
        "s::b": 0.0,
    }


def test_a_zeroeval_answer_is_read_out_of_the_json_in_its_output(tmp_path: Path) -> None:
    output = '```json\n{"reasoning": "…", "answer": "[(4, 1)]"}\n```'
    rows = [
        {"id": "q1", "question": "f()?", "output": [output], "answer": "[(4,1)]"},
        {"id": "q2", "question": "g()?", "output": ["no answer at all"], "answer": "3"},
        {"id": "q3", "question": "h()?", "output": ['I think so.", "answer": "7"\n}'], "answer": "7"},
        {"id": "q4", "question": "k()?", "output": ['{"reasoning": "\\(x\\)", "answer": 5}'], "answer": "5"},
        {
            "id": "q5",
            "question": "l()?",
            "output": ['Here: {"reasoning": "a\nb", "answer": "x"} I hope.'],
            "answer": "'x'",
        },
    ]
    (tmp_path / "model.json").write_text(json.dumps(rows))
    found = convert(LAYOUTS["zeroeval"], [("model", tmp_path / "model.json")], "crux")
    assert [row["s::model"] for row in found] == [1.0, 0.0, 1.0, 1.0, 1.0]


def test_gsm8k_scores_stand_in_nested_fields(tmp_path: Path) -> None:
    line = {"question": "How much?", "6b_finetuning": {"is_correct": False}, "175b_verification": {"is_correct": True}}
    (tmp_path / "solutions.jsonl").write_text(json.dumps(line) + "\n")
    (row,) = convert(LAYOUTS["gsm8k"], [("solutions", tmp_path / "solutions.jsonl")], "gsm8k")
    assert (row["s::6b_finetuning"], row["s::175b_verification"]) == (0.0, 1.0)
    assert "s::6b_verification" not in row


@pytest.mark.parametrize(
    ("given", "right", "same"),
    [
        ("1,000", "1000", True),
        ("18.0", "She makes 9 * 2\n#### 18", True),
        ("$5", "5", True),
        (" Paris ", "paris", True),
        ("{'a': 1}", '{"a": 1}', True),
        ("19", "18", False),
        (None, "18", False),
        ("import os", "18", False),
        ("285 miles", "# 285", True),
        ("2 or 3", "3", False),
        ("a # b", "'a # b'", True),
        ("UppEr", "'UppEr'", True),
        ("[(3, 1)]", "[(4, 1)]", False),
        ("{{1}: 2}", "{1: 2}", False),
    ],
)
def test_answers_are_equal_as_numbers_as_literals_or_as_text(given: str | None, right: str, same: bool) -> None:
    assert same_answer(given, right) is same


def test_the_command_writes_a_table_that_training_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.csv").write_text("text,small,large\nhello there,7,10\nspoiled,1,2\n")
    (tmp_path / "spoiled.jsonl").write_text('{"eval_prompt": "spoiled"}\n')
    out = tmp_path / "mine.jsonl"
    scores = ["--score", "a=small", "--score", "b=large", "--scale", "10", "--prompt", "text"]
    main(
        [
            "rows",
            *scores,
            "--contaminated",
            str(tmp_path / "spoiled.jsonl"),
            "--out",
            str(out),
            str(tmp_path / "mine.csv"),
        ]
    )
    table = read_table(out)
    assert "2 rows" in capsys.readouterr().out
    assert table.models == ("a", "b")
    assert table.scores.tolist() == [[0.7, 1.0]]
    assert orjson.loads(out.read_bytes().splitlines()[1])["contaminated"] is True


def test_a_preference_of_alpaca_eval_is_a_score_of_the_model_that_the_row_names(tmp_path: Path) -> None:
    row = {"instruction": "Say hello.", "dataset": "koala", "output_2": "not copied", "generator_2": "small"}
    lines = [row | {"preference": 1.25}, row | {"instruction": "Count.", "preference": None}]
    (tmp_path / "annotations.json").write_text(json.dumps(lines))
    found = convert(LAYOUTS["alpaca-eval"], [("annotations", tmp_path / "annotations.json")], "alpaca_eval")
    assert found == [
        {
            "pid": "alpaca_eval:Say hello.",
            "bench": "alpaca_eval",
            "domain": "koala",
            "prompt": "Say hello.",
            "s::small": 0.25,
        },
        {"pid": "alpaca_eval:Count.", "bench": "alpaca_eval", "domain": "koala", "prompt": "Count."},
    ]


def test_a_judges_scores_of_two_turns_are_one_mean_and_minus_one_is_no_score(tmp_path: Path) -> None:
    questions = [
        {"question_id": 81, "category": "writing", "turns": ["Write a poem.", "Make it rhyme."]},
        {"question_id": 82, "category": "math", "turns": ["Add."]},
    ]
    judged = [
        {"question_id": 81, "model": "maker/small", "turn": 1, "score": 10},
        {"question_id": 81, "model": "maker/small", "turn": 2, "score": 1},
        {"question_id": 82, "model": "maker/small", "turn": 1, "score": -1},
        {"question_id": 82, "model": "large", "turn": 1, "score": 5.5},
    ]
    (tmp_path / "judged.jsonl").write_text("\n".join(map(json.dumps, judged)))
    rows = convert(LAYOUTS["fastchat"], [("judged", tmp_path / "judged.jsonl")], "mt_bench", questions)
    assert [(row["prompt"], row["domain"]) for row in rows] == [("Write a poem.", "writing"), ("Add.", "math")]
    assert rows[0]["s::maker/small"] == 0.5
    assert "s::maker/small" not in rows[1]
    assert rows[1]["s::large"] == 0.5


def test_what_is_asked_is_cut_out_of_the_examples_around_it(tmp_path: Path) -> None:
    wrapped = "Which is wet?\nA) sun\nAnswer: B\n\nWhich is hot?\nA) sun\nB) sea\nAnswer with one letter."
    with (tmp_path / "shots.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["id", "prompt", "small"], ["q7", str([wrapped]), "1.0"], ["q8", str(["No frame."]), ""]])
    layout = Layout(
        prompt="prompt.0", key="id", scores={"small": "small"}, asked=r"(?:.*\n\n)?(.+?)(?:\nAnswer with|$)"
    )
    rows = convert(layout, [("shots", tmp_path / "shots.csv")], "arc")
    assert [row["prompt"] for row in rows] == ["Which is hot?\nA) sun\nB) sea", "No frame."]
    assert (rows[0]["s::small"], "s::small" in rows[1]) == (1.0, False)


def test_the_command_takes_questions_and_the_field_of_a_score(tmp_path: Path) -> None:
    (tmp_path / "asked.jsonl").write_text('{"id": 1, "text": "hello there"}\n')
    (tmp_path / "small.jsonl").write_text('{"id": 1, "rating": 4}\n')
    out = tmp_path / "mine.jsonl"
    fields = ["--key", "id", "--prompt", "text", "--score", "rating", "--scale", "5", "--least", "1"]
    main(
        [
            "rows",
            *fields,
            "--questions",
            str(tmp_path / "asked.jsonl"),
            "--out",
            str(out),
            str(tmp_path / "small.jsonl"),
        ]
    )
    assert read_table(out).scores.tolist() == [[0.75]]


def test_questions_without_a_key_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "hi"}\n')
    with pytest.raises(TableError, match="name its field with --key"):
        convert(LAYOUTS["rows"], [("rows", tmp_path / "rows.jsonl")], "odd", [{"id": 1}])


def test_a_field_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text("text,small\nhi,True\n")
    with pytest.raises(TableError, match=r"odd\.csv: a row has no text at 'prompt'; its fields are text, small"):
        convert(LAYOUTS["routellm"], [("odd", tmp_path / "odd.csv")], "odd")


def test_scores_are_read_however_a_program_wrote_the_number(tmp_path: Path) -> None:
    written = ("1e-05", "2.5E-1", ".5", "1.", "0,5", "nan", "")
    lines = "".join(f'q{number},"{score}"\n' for number, score in enumerate(written))
    (tmp_path / "mine.csv").write_text(f"prompt,small\n{lines}")
    rows = convert(Layout(scores={"a": "small"}), [("mine", tmp_path / "mine.csv")], "mine")
    assert [row.get("s::a") for row in rows] == [1e-05, 0.25, 0.5, 1.0, None, None, None]


def test_a_csv_as_excel_writes_it_and_a_long_prompt_are_read(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(f"prompt,small\n{'long ' * 40_000},1\n", encoding="utf-8-sig")
    (row,) = convert(Layout(scores={"a": "small"}), [("mine", tmp_path / "mine.csv")], "mine")
    assert (len(row["prompt"]), row["s::a"]) == (200_000, 1.0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--score", "b=smal"], "no row has a score, a number or true or false, at 'smal'"),
        (["--asked", "("], "no regular expression"),
        (["--asked", "hi"], "has no group"),
        (["--scale", "0"], "--scale 0 is not above --least 0"),
        (["--out", "nowhere/t.jsonl"], "nowhere/t.jsonl cannot be written"),
    ],
)
def test_an_option_that_makes_no_sense_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    (tmp_path / "mine.csv").write_text("prompt,small\nhi,1\n")
    arguments = ["rows", "--score", "a=small", "--out", str(tmp_path / "t.jsonl"), str(tmp_path / "mine.csv"), *options]
    with pytest.raises(SystemExit):
        main(arguments)
    assert says in capsys.readouterr().err


def test_a_file_that_is_no_list_of_objects_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text('{"a": 1}')
    with pytest.raises(TableError, match="list of objects"):
        read_records(tmp_path / "odd.json")
    (tmp_path / "odd.json").write_text("{")
    with pytest.raises(TableError, match="cannot be read"):
        read_records(tmp_path / "odd.json")
