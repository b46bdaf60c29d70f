import json
from pathlib import Path

import orjson
import pytest

from heimdall_models.training.convert import LAYOUTS, convert, main, read_records, same_answer
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


def test_a_field_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text("text,small\nhi,True\n")
    with pytest.raises(TableError, match=r"odd\.csv: a row has no text at 'prompt'; its fields are text, small"):
        convert(LAYOUTS["routellm"], [("odd", tmp_path / "odd.csv")], "odd")


def test_a_file_that_is_no_list_of_objects_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text('{"a": 1}')
    with pytest.raises(TableError, match="list of objects"):
        read_records(tmp_path / "odd.json")
    (tmp_path / "odd.json").write_text("{")
    with pytest.raises(TableError, match="cannot be read"):
        read_records(tmp_path / "odd.json")
