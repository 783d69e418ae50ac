"""Hooks of the site: links that leave docs/, and the notebooks as pages.

On GitHub the pages link to code and tables of the repository. The site has neither: such a link keeps its
text, as code. A link to a file that does not exist fails the build.
"""

import base64
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?)\[([^\]\n]*(?:\[[^\]\n]*\][^\]\n]*)*)\]\((?!https?:|#)([^)\s#]+)(#[^)\s]*)?\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def within(markdown: str, page: Path) -> str:
    """Return the text with the links that leave docs/ as code, and those to notebooks to their pages."""

    def one(found: re.Match[str]) -> str:
        picture, text, target, anchor = found.groups()
        there = (ROOT / "docs" / page.parent / target).resolve()
        if not there.exists() and not (ROOT / "docs" / page.parent / target).with_suffix(".ipynb").exists():
            raise PluginError(f"{page}: the link {target} leads nowhere")
        if target.endswith(".ipynb"):
            return f"{picture}[{text}]({target.removesuffix('.ipynb')}.md{anchor or ''})"
        if there.is_relative_to(ROOT / "docs") and not there.is_dir() and there.suffix != ".py":
            return found[0]
        if there == ROOT / "README.md":
            return f"[{text}]({'../' * len(page.parent.parts)}index.md)"
        return text if "`" in text else f"{text} (`{there.relative_to(ROOT)}`)"

    parts, last = [], 0
    for block in FENCED.finditer(markdown):
        parts += [LINK.sub(one, markdown[last : block.start()]), block[0]]
        last = block.end()
    return "".join([*parts, LINK.sub(one, markdown[last:])])


def notebook_page(path: Path) -> str:
    """Return a notebook as Markdown: its text, its code, and what was printed, with pictures inline."""
    parts: list[str] = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                picture = base64.b64decode("".join(data["image/png"]))
                shown = base64.b64encode(picture).decode()
                parts.append(f'<img alt="output" src="data:image/png;base64,{shown}">')
            else:
                text = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts)


def on_files(files: Any, config: Any) -> Any:
    """Add a page per notebook."""
    for path in sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
        page = File.generated(config, f"notebooks/{path.stem}.md", content=notebook_page(path))
        files.append(page)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrite the links of a page."""
    return within(markdown, Path(page.file.src_uri))
