"""README and docs: links resolve, quoted commands parse, settings exist, and code blocks run."""

import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from support.finished_job import finished_job, finished_tuning

from recapture.conf.describe import chosen
from recapture.conf.load import load_config, load_pretrain_config
from recapture.flows.cli import app
from recapture.flows.commands.settings import pattern_of

ROOT = Path(__file__).parents[1]
ROOT_PAGES = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "datasets/README")]
PAGES = [*ROOT_PAGES, *sorted((ROOT / "docs").rglob("*.md"))]
WRITTEN = [page for page in PAGES if page.name not in ("settings.md", "cli.md")]  # those are generated
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)(?:#([^)\s]*))?\)")
INLINE = re.compile(r"`([^`\n]+)`")
ASSIGNMENT = re.compile(r"\w+=")
USAGE_ERROR = typer.BadParameter.__mro__[1]  # click's; some versions of typer bring their own click
SETTING = re.compile(r"--([a-z_]+(?:\.[a-z_]+)+)")


def name(page):
    return page.relative_to(ROOT).as_posix()


def anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def words_of(line):
    """The words of a `recapture` command after its name; None for any other command.

    Comments and redirections are left out; `…` stands for more settings or, behind an option, for a value.
    """
    try:
        words = shlex.split(line.partition(" > ")[0], comments=True)
    except ValueError:
        return None
    while words and ASSIGNMENT.match(words[0]):
        words.pop(0)
    if not words or words[0].rpartition("/")[2] != "recapture":
        return None
    given = ["given" if word == "…" and before.startswith("--") else word for before, word in pairwise(words)]
    return [word for word in given if word != "…"]


def commands(page):
    """Every `recapture` command of a page as its words."""
    text = page.read_text()
    lines = [line for _, block in FENCED.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    parts = [part for line in lines for part in re.split(r"; (?=recapture)", line)]
    parts += INLINE.findall(FENCED.sub("", text))
    return [words for part in parts if (words := words_of(part)) is not None]


def check(words):
    """Parse a command and load its settings, without running it."""
    command, context, rest = typer.main.get_command(app), None, list(words)
    while hasattr(command, "get_command") and rest and not rest[0].startswith("-"):
        context = command.context_class(command, parent=context, info_name=command.name)
        found = command.get_command(context, rest[0])
        assert found is not None, f"no command is called {rest[0]!r}"
        command, rest = found, rest[1:]
    if not rest:
        return  # the command is named, not called
    if context is None:  # options without a command act at once: --version, --install-completion
        known = {"--help", *(word for option in command.params for word in option.opts)}
        assert set(rest) <= known, f"no option is called {rest[0]!r}"
        return
    context = command.make_context(command.name, rest, parent=context)
    given = context.params
    if "pattern" in given:
        pattern_of(context, given["pattern"])
    if command.name == "pretrain":
        load_pretrain_config(arguments=context.args)
    else:
        method = ["--fill.method", given["method"]] if given.get("method") else []
        load_config(given.get("profile"), arguments=[*method, *context.args])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_within_the_repository_resolves(page):
    for target, anchor in LINK.findall(page.read_text()):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_every_quoted_command_parses_and_its_settings_are_valid(page):
    for words in commands(page):
        try:
            check(words)
        except (USAGE_ERROR, ValueError) as error:
            raise AssertionError(f"recapture {shlex.join(words)}: {error}") from error


def test_commands_are_found_in_blocks_and_in_sentences_and_mistakes_are_noticed(tmp_path):
    page = tmp_path / "page.md"
    block = "```\nA=1 recapture run \\\n  --store … # x\nls; echo\n```\n"
    page.write_text(block + "See `recapture plan --json`, `recapture`.")
    assert commands(page) == [["run", "--store", "given"], ["plan", "--json"], []]
    for wrong in (
        ["walk"],
        ["run", "--fill.windw", "3"],
        ["plan", "--jsn"],
        ["replay", "--clip", "a"],
        ["--verson"],
    ):
        with pytest.raises((AssertionError, USAGE_ERROR, ValueError)):
            check(wrong)


def test_enough_commands_are_checked():
    assert len([words for page in WRITTEN for words in commands(page)]) > 60


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_every_setting_that_is_named_exists(page):
    known = {one.name for section in (None, "pretrain") for one in chosen(section)}
    sections = {setting.partition(".")[0] for setting in known if "." in setting}
    text = page.read_text()
    named = SETTING.findall(text)
    named += [
        inside.rstrip(".")
        for inside in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)[`= ]", text)
        if inside.partition(".")[0] in sections
    ]
    sections = {".".join(one.split(".")[:count]) for one in known for count in range(1, 5)}
    unknown = {one for one in set(named) - sections if not any(one.startswith(f"{name}.") for name in known)}
    unknown -= {"section.key", "cameras.npz", "cameras.bin"}  # the latter are files
    assert sorted(unknown) == []  # a setting may hold a table, such as execution.resources


BLOCKS = [
    pytest.param(code, id=f"{name(page)} {number}")
    for page in WRITTEN
    if page.is_relative_to(ROOT / "docs")
    for number, (language, code) in enumerate(FENCED.findall(page.read_text()))
    if language == "python"
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished job and tuning, which the blocks only read."""
    folder = tmp_path_factory.mktemp("finished")
    finished_tuning(finished_job(folder))
    return folder


@pytest.mark.parametrize("code", BLOCKS)
def test_every_python_block_runs_beside_a_finished_job(code, finished):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=finished, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_pages_that_promise_an_example_have_one():
    assert {block.id.split()[0] for block in BLOCKS} >= {"docs/python.md", "docs/architecture.md"}


WALKS = re.findall(r"^## (From .*?)\n(.*?)(?=^## )", (ROOT / "docs/architecture.md").read_text(), re.M | re.S)


@pytest.mark.parametrize("walk", [steps for _, steps in WALKS], ids=[title for title, _ in WALKS])
def test_a_walk_passes_at_most_a_dozen_files_once_and_names_what_is_in_them(walk):
    steps = re.findall(r"^\d+\. \[(\S+)\]\(\.\./\1\) (.*?):", walk, re.MULTILINE)
    assert len(steps) == len(re.findall(r"^\d+\.", walk, re.MULTILINE))
    assert len({file for file, _ in steps}) == len(steps) <= 12
    for file, names in steps:
        for one in INLINE.findall(names):
            assert re.search(rf"^ *(?:def|class) {one}\b", (ROOT / file).read_text(), re.MULTILINE), (
                file,
                one,
            )


def test_files_that_the_architecture_names_exist():
    text = FENCED.sub("", (ROOT / "docs/architecture.md").read_text())
    named = re.findall(r"`((?:flows|tasks|models|datasets|conf|tests|src)/[\w./]*)", text)
    assert len(named) > 15
    gone = [one for one in named if "NAME" not in one and not (ROOT / one).exists()]
    assert gone == ["tasks/jobs/brightness.py"]  # of the example
