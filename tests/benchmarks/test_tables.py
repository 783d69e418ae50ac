"""The tables in the pages are those of benchmarks/tables, and prose quotes numbers from there."""

import re
from pathlib import Path

import pytest

from bench.tables import (
    PAGES,
    PLACE,
    TABLES,
    Cell,
    Column,
    Run,
    Table,
    fill_places,
    load,
    markdown,
    save,
    text,
)

BENCHMARKS = sorted(PAGES.glob("*.md"))
DOCS = [PAGES.parent / "README.md", *sorted((PAGES.parent / "docs").glob("*.md"))]
QUOTE = re.compile(r"([+-]?\d*(?:\.\d+)?)<!-- ([\w.-]+): (.+?) \| (.+?) -->")
ANY_QUOTE = re.compile(r"<!-- [\w.-]+: [^>]*? \| [^>]*? -->")


@pytest.mark.parametrize("page", BENCHMARKS, ids=lambda page: page.name)
def test_the_generated_parts_of_a_page_are_what_its_tables_give(page: Path) -> None:
    for place in PLACE.finditer(page.read_text()):
        assert place["text"] == markdown(load(place["name"])), place["name"]


def test_every_table_has_one_place_in_one_page() -> None:
    places = [place["name"] for page in BENCHMARKS for place in PLACE.finditer(page.read_text())]
    assert sorted(places) == sorted(path.stem for path in TABLES.glob("*.json"))


@pytest.mark.parametrize("page", BENCHMARKS, ids=lambda page: page.name)
def test_no_page_holds_a_table_that_no_script_writes(page: Path) -> None:
    by_hand = PLACE.sub("", page.read_text())
    assert not [line for line in by_hand.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("page", [*BENCHMARKS, *DOCS], ids=lambda page: page.name)
def test_numbers_quoted_in_prose_are_those_of_the_tables(page: Path) -> None:
    prose = PLACE.sub("", page.read_text())
    quotes = QUOTE.findall(prose)
    assert len(quotes) == len(ANY_QUOTE.findall(prose)), "a quote stands behind no number"
    for number, name, row, column in quotes:
        cell = load(name).cell(row, column)
        first = cell[0] if isinstance(cell, list) else cell
        value = float(str(first).strip("*"))
        decimals = len(number.partition(".")[2])
        assert float(f"{value:.{decimals}f}") == float(number), f"{name}: {row} | {column} is {value}"


@pytest.mark.parametrize("path", sorted(TABLES.glob("*.json")), ids=lambda path: path.stem)
def test_a_stored_table_is_whole_and_keeps_its_bytes(path: Path, tmp_path: Path) -> None:
    table = load(path.stem)
    assert table.name == path.stem and table.rows
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert table.run.command and table.run.machine and table.run.date
    assert save(table, tmp_path).read_text() == path.read_text()


@pytest.fixture
def table() -> Table:
    rows: list[list[Cell]] = [["base", 17.6, None], ["single", 17.7, [0.09, -0.08, 0.24]]]
    columns = [Column(""), Column("psnr_hole", ".3g"), Column("Δ psnr_hole")]
    return Table("some", "Title", columns, rows, Run("python benchmarks/x.py", "2 cores", "2026-11-28"))


def test_a_table_is_written_into_its_place_and_nowhere_else(table: Table, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Before\n<!-- table some: generated -->\nold\n<!-- end -->\nAfter\n")
    fill_places(table, tmp_path)
    filled = page.read_text()
    assert filled.startswith("Before\n") and filled.endswith("<!-- end -->\nAfter\n")
    assert "| single | 17.7 | +0.09 [-0.08, +0.24] |" in filled and "old" not in filled
    fill_places(table, tmp_path)
    assert page.read_text() == filled


def test_a_table_that_no_page_has_a_place_for_is_named(table: Table, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("<!-- table other: generated -->\n<!-- end -->\n")
    with pytest.raises(SystemExit, match="no page has a place for the table 'some'"):
        fill_places(table, tmp_path)


def test_cells_show_numbers_intervals_words_and_nothing() -> None:
    cells = (17.62, [0.5, 0.25, 0.75], "word", None, float("nan"))
    assert [text(cell, ".3g") for cell in cells] == ["17.6", "+0.50 [+0.25, +0.75]", "word", "", ""]
