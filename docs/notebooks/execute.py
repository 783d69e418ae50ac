"""Run a notebook from its first cell to its last in an empty folder, and store it with what it printed.

python docs/notebooks/execute.py docs/notebooks/recapture.ipynb   (needs `pip install -e '.[docs]'`)
"""

import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

QUIET = {"PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore", "PYTHONWARNINGS": "ignore"}
PROGRESS = re.compile(r"\w+: \d+ of \d+")
SECONDS = 1200  # per cell


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Return the notebook as run in the folder, which its outputs do not name. Raises CellExecutionError."""
    notebook = nbformat.read(path, as_version=4)
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    client = NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the times of day
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if not _is_chatter(output)]
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = output["text"].replace(f"{folder}/", "")
            for kind, text in output.get("data", {}).items():
                if kind.startswith("text/"):
                    output["data"][kind] = text.replace(f"{folder}/", "")
                elif kind == "image/png":
                    output["data"][kind] = smaller(text)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def smaller(picture: str) -> str:
    """Return a PNG as base64 with 128 colours, so that the notebook stays small."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").quantize(128)
    buffer = io.BytesIO()
    image.save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _is_chatter(output: nbformat.NotebookNode) -> bool:
    """Return whether an output is a log of a library: anything on standard error but a job's progress."""
    return output.get("name") == "stderr" and not PROGRESS.match(output["text"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as empty:
        nbformat.write(executed(Path(sys.argv[1]), Path(empty)), sys.argv[1])
