"""The book's generated pages: current, whole, and without a number of their own."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dslearn.course import VERDICTS, Ledger, claim, statements
from dslearn.course.claims import from_row
from dslearn.course.execute import Budget
from dslearn.course.ledger import LEDGER_VARIABLE
from dslearn.course.pages import PAGES, Run, claims_page, execution_page, main, stale_pages

ROOT = Path(__file__).resolve().parents[2]
BOOK = Ledger(ROOT / "book" / "claims.json")
MACHINE = {"processor": "P", "cores": 2, "threads": 1, "system": "S", "gpu": "G"}
RUN = Run(67.4, 1163, 0.512, "guard", "ba9876543210", "0123456789ab", "2026-01-31", MACHINE)


def section(page: str, claim_id: str) -> str:
    """What the page says about one claim, without the links around its words."""
    text = re.split(r"^#{2,3} ", page.split(f"\n### {claim_id}\n")[1], flags=re.MULTILINE)[0]
    return re.sub(r"\[([^\]]+)\]\([^)]+\)|<(https://[^>]+)>", r"\1\2", text)


@pytest.fixture
def page() -> str:
    return claims_page(statements(), BOOK)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book of the test's own, with current pages; the current folder."""
    (tmp_path / "book").mkdir()
    for name in ("claims.json", "execution.json"):
        shutil.copy(ROOT / "book" / name, tmp_path / "book")
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    return tmp_path


def test_every_stored_page_is_what_its_records_give() -> None:
    assert stale_pages(ROOT) == [], "run: python -m dslearn.course.pages"


@pytest.mark.parametrize("claim_id", statements())
def test_every_claim_says_what_is_said_known_and_measured(page: str, claim_id: str) -> None:
    statement, row, told = statements()[claim_id], BOOK.claim(claim_id), section(page, claim_id)
    assert row is not None
    assert statement.says in told
    assert statement.known in told
    assert all(source in told for source in statement.sources)
    assert f"**Verdict: {row['verdict']}**" in told
    if row["verdict"] == "not yet measured":
        assert "*Measured here:* not yet measured." in told
        assert "Machine" not in told
    else:
        kept = (from_row(row).value(), row["baseline"] or "", row["note"], row["date"][:10], row["library"])
        for part in (*kept, row["machine"]["processor"], row["versions"]["torch"]):
            assert part in told


def test_each_claim_stands_once_and_under_its_chapter(page: str) -> None:
    found = re.findall(r"^## Chapter (\d\d)|^### (\S+)$", page, re.MULTILINE)
    chapter, placed = "", {}
    for number, claim_id in found:
        chapter = number or chapter
        if claim_id:
            placed[claim_id] = int(chapter)
    assert placed == {statement.id: statement.chapter for statement in statements().values()}
    assert len([claim_id for _, claim_id in found if claim_id]) == len(placed)


def test_the_summary_counts_every_verdict_and_links_to_its_claims(page: str) -> None:
    rows = BOOK.read()["claims"]
    for word in VERDICTS:
        (count, links) = re.findall(rf"^\| {word} \| (\d+) \| (.*) \|$", page, re.MULTILINE)[0]
        linked = re.findall(r"\[([^\]]+)\]\(#\1\)", links)
        assert sorted(linked) == sorted(claim_id for claim_id, row in rows.items() if row["verdict"] == word)
        assert int(count) == len(linked)
    assert f"| **all** | **{len(rows)}** |" in page


def test_the_numbers_are_those_of_the_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "claims.json")
    told = section(claims_page(statements(), ledger), "dsa-speed")
    assert "**Verdict: not yet measured**" in told, "a row that the ledger lacks"
    claim("dsa-speed", [7.1234, 6.0, 8.0], "×", baseline="dense", verdict="reproduced", seeds=[3, 5, 8], ledger=ledger)
    told = section(claims_page(statements(), ledger), "dsa-speed")
    assert "*Measured here:* 7.12× (6 to 8 over 3 seeds), against dense." in told
    assert "*Seeds:* 3, 5, 8" in told


def test_what_others_published_is_not_called_measured(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "claims.json")
    claim("3d-speedup", None, verdict="published elsewhere", ledger=ledger)
    told = section(claims_page(statements(), ledger), "3d-speedup")
    assert "**Verdict: published elsewhere**" in told
    assert "*Measured here:* nothing measured here." in told


def test_a_row_of_no_claim_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "claims.json")
    ledger.record_claim("nothing", {**BOOK.read()["claims"]["dsa-speed"], "id": "nothing"})
    with pytest.raises(ValueError, match="no claim is called 'nothing'"):
        claims_page(statements(), ledger)


def test_sources_are_links(page: str) -> None:
    assert "[arXiv:2512.02556](https://arxiv.org/abs/2512.02556)" in page
    assert "[doi:10.1145/1498765.1498785](https://doi.org/10.1145/1498765.1498785))" in page
    assert "[book/timeline.csv](timeline.csv)" in page
    assert not re.findall(r"(?<!\[)arXiv:\d", page)


def test_the_cost_of_each_chapter_stands_beside_what_it_may_be() -> None:
    told = execution_page({"01_b": replace(RUN, seconds=20), "00_a": RUN}, Budget(seconds=90, megabytes=2))
    assert "| Notebook | Time, of 90 s | Memory | Stored, of 2 MB |" in told
    line = "| `00_a` | 67.4 s | 1,163 MB | 0.512 MB | guard | 0123456789ab | 2026-01-31 | P, 2 cores, 1 thread, G, S |"
    assert line in told
    assert told.index("`00_a`") < told.index("`01_b`")
    assert "Notebooks: 2. Together: 87.4 s." in told
    assert "- **guard**: blocked by a guard inside Python" in told
    assert "- **namespace**" not in told


def test_no_run_is_said_to_be_none() -> None:
    assert "No chapter has been run for the book yet." in execution_page({}, Budget())


def test_an_unknown_way_of_blocking_is_refused() -> None:
    with pytest.raises(ValueError, match="network must be one of namespace, guard; got 'hope'"):
        replace(RUN, network="hope")


def test_check_names_the_stale_page_and_writes_nothing(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    for name in PAGES:
        path = clone / name
        whole = path.read_bytes()
        path.write_bytes(whole + b" ")
        assert main(["--check"]) == 1
        assert capsys.readouterr().err == f"{name} is stale; run: python -m dslearn.course.pages\n"
        assert path.read_bytes() == whole + b" "
        path.unlink()
        assert main(["--check"]) == 1
        assert not path.exists()
        assert main([]) == 0
        assert path.read_bytes() == whole
        capsys.readouterr()


def test_a_new_measurement_makes_the_page_stale(clone: Path) -> None:
    claim("moe-trillion", 3, "×", verdict="reproduced", ledger=Ledger(clone / "book" / "claims.json"))
    assert stale_pages(clone) == ["book/claims.md"]


def test_a_readers_run_does_not_change_the_page(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LEDGER_VARIABLE, raising=False)
    claim("moe-trillion", 3, "×", verdict="reproduced")
    assert stale_pages(clone) == []


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"00_a": {"seconds": 1}}', json.dumps({"00_a": {**vars(RUN), "network": ""}})]
)
def test_a_damaged_record_is_named(clone: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    (clone / "book" / "execution.json").write_text(content, encoding="utf-8")
    assert main(["--check"]) == 1
    assert "execution.json is damaged: " in capsys.readouterr().err


def test_outside_a_clone_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 1
    assert "there is no book here; run this in a clone" in capsys.readouterr().err
