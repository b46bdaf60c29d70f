"""A tenant leaves the data set."""

from datetime import timedelta

from tests.unit.heimdall_fleet.learn.made import NOON, Desk, decision, feedback, outcome

from heimdall_fleet.learn.erase import erase


def test_an_erased_tenant_is_gone_and_later_replays_do_not_bring_it_back(desk: Desk) -> None:
    mine = [decision("a", tenant="t"), outcome("a", tenant="t"), feedback("a", score=1.0)]
    newer = decision("n", tenant="t", decision_version="9")
    others = [decision("b", tenant="u"), outcome("b", tenant="u"), feedback("b", score=0.5)]
    desk.run(*mine, newer, *others)
    told = erase(desk.out, "t", lambda: NOON + timedelta(hours=1))
    assert (told["rows"], told["feedback"], told["set_aside"]) == (1, 1, 1)
    assert list(desk.rows()) == ["b"]
    assert desk.manifest()["rows"] == 1
    assert desk.manifest()["erasures"] == [told]
    assert '"t"' not in desk.layout.set_aside.read_text()
    again = desk.run(*mine, newer, *others, decision("back", 120, tenant="t"))
    assert sorted(desk.rows()) == ["b", "back"]
    assert again["counts"]["of_an_erased_tenant"] == 3


def test_an_erased_tenant_leaves_neither_its_words_nor_the_hash_of_its_question(desk: Desk) -> None:
    mine = decision("r-1", tenant="acme", text="where is the treasure", question="5ec2e7")
    desk.run(mine, decision("r-2", tenant="other", question="07e2"), outcome("r-1"))
    erase(desk.out, "acme")
    left = b"".join(path.read_bytes() for path in desk.out.rglob("*") if path.is_file())
    assert {row["question"] for row in desk.rows().values()} == {"07e2"}
    assert all(row["text"] is None for row in desk.rows().values())
    assert b"treasure" not in left
