"""The results pages over HTTP, for `recapture ui`; a process of its own.

Pages open from disk as well; a server serves parts of videos, so that a browser can go to any frame.
"""

from __future__ import annotations

import html
import sys
from pathlib import Path
from urllib.parse import quote

from fsspec.implementations.local import LocalFileSystem

from recapture.conf.schema import RecaptureConfig
from recapture.datasets.store.storage import open_filesystem

HOST = "127.0.0.1"


def local_outputs(config: RecaptureConfig) -> Path | None:
    """Return the folder of outputs; None if it is not on this machine."""
    filesystem, path = open_filesystem(config.outputs)
    return Path(path).absolute() if isinstance(filesystem, LocalFileSystem) else None


def results_app(folder: Path) -> object:
    """Return the ASGI application that serves the pages of all datasets of a folder of outputs."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import HTMLResponse
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    def datasets(request: Request) -> HTMLResponse:
        found = sorted(page.parent.name for page in folder.glob("*/index.html"))
        links = "".join(
            f'<li><a href="{quote(name)}/index.html">{html.escape(name)}</a></li>' for name in found
        )
        nothing = "<p>No results yet: <code>recapture run</code> makes some.</p>"
        return HTMLResponse(
            f"<!doctype html><title>Results</title><h1>Results</h1><ul>{links}</ul>{nothing * (not found)}"
        )

    folder.mkdir(parents=True, exist_ok=True)
    return Starlette(routes=[Route("/", datasets), Mount("/", StaticFiles(directory=folder, html=True))])


def main(folder: str, port: str) -> None:
    """Serve a folder of outputs on loopback until the process is ended."""
    import uvicorn

    uvicorn.run(results_app(Path(folder)), host=HOST, port=int(port), log_level="warning")  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
