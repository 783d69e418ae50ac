"""Check that the default fill loses to the classical one nowhere; exits with status 1 if it does.

    python benchmarks/default_fill.py --scenes 5

The default settings against the classical fill, on every family of test scenes at every angle
(bench/families.py). It fails where the mean over a family's scenes at one angle is more than 0.3 dB below the
classical fill's in holes, or where a case was not measured. Shares its measurements with `compositing.py`.
"""

from __future__ import annotations

import argparse
import sys

from bench.compared_fills import add_arguments, measured
from bench.default_check import compared, losses, table
from bench.tables import add_write, publish, this_run
from recapture.conf.fill import FillConfig


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    add_write(parser, "default_fill")
    given = parser.parse_args()
    rows = measured(given)
    default = FillConfig()
    found = compared(rows.scores, f"{default.method}, {default.compositing}")
    run = this_run(base=given.base, measured_on=rows.measured_on)
    publish([table(given.write or "default_fill", found, run)], write=given.write is not None)
    lost = losses(found)
    for one in lost:
        print(one, file=sys.stderr)
    return 1 if lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
