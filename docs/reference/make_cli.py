"""Write docs/reference/cli.md from the commands themselves: python docs/reference/make_cli.py"""

import html
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# Commands

Generated from the commands by `docs/reference/make_cli.py`. Whatever runs or inspects a job takes any setting
as `--section.key VALUE`; [settings](../settings.md) describes them all.

"""


def page() -> str:
    """Return the page, as typer describes the commands."""
    made = subprocess.run(
        [sys.executable, "-m", "typer", "recapture.flows.cli", "utils", "docs", "--name", "recapture"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    text = html.unescape(made).partition("**Usage**")[2]
    text = re.sub(r"^### ", "#### ", text, flags=re.MULTILINE)
    return HEAD + re.sub(r"[ \t]+$", "", f"**Usage**{text}", flags=re.MULTILINE).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
