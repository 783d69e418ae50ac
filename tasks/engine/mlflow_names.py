"""Names of clips as names in MLflow, which takes few characters and treats some of them as folders.

A character that MLflow refuses becomes `_xHEX_`, its code point, so names stay recognisable and no two names
become one: `IMG (1)` is `IMG _x28_1_x29_`. An underscore that already begins such a sequence is
written so too.
"""

from __future__ import annotations

import hashlib
import re

LONGEST = 150  # characters; of an image key and 70 more, MLflow makes the name of one file
LONGEST_END = 60
_ESCAPED = re.compile(r"_(?=(?:x[0-9a-f]+|at)[^A-Za-z0-9\-/])")  # what follows may become an underscore
_REFUSED = re.compile(r"[^A-Za-z0-9_\-. /@]")
_EDGES = re.compile(r"(?:(?<=/)|^)[ .]|[ .](?=/|$)")  # folders that file systems would change or refuse


def mlflow_name(name: str) -> str:
    """Return a name as metric, image key or artifact folder; `/` separates folders, `@` becomes `_at_`.

    Of a name that becomes too long, the middle is replaced by a hash of all of it.
    """
    safe = _REFUSED.sub(_hex, _ESCAPED.sub(_hex, name)).replace("@", "_at_")
    safe = _EDGES.sub(_hex, safe)
    if len(safe) <= LONGEST:
        return safe
    rest, slash, end = safe.rpartition("/")
    if not slash or len(end) > LONGEST_END:
        rest, slash, end = safe, "", ""
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    kept = rest[: LONGEST - len(digest) - len(end) - 2].rstrip(" ./")
    return f"{kept}_{digest}{slash}{end}"


def mlflow_word(name: str) -> str:
    """Return a name as one part of a path, or as the name of a registered model."""
    return mlflow_name(name).replace("/", "_x2f_")


def _hex(match: re.Match[str]) -> str:
    return f"_x{ord(match[0]):x}_"
