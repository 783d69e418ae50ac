"""Train one part of the embedded models in this process, without Prefect and MLflow.

    python -m recapture.tasks.pretrain vae --seconds 500 --vae.steps 7000

Any setting can be added as --section.key VALUE. Saves and stops after --seconds; the next call resumes.
On several GPUs, with averaged gradients (a call without torchrun then judges the finished part):

    torchrun --nproc_per_node 2 -m recapture.tasks.pretrain inpainter
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Mapping

from recapture.conf.errors import UserError
from recapture.conf.load import load_pretrain_config
from recapture.conf.pretrain import PARTS
from recapture.tasks.pretrain.curves import file_log
from recapture.tasks.pretrain.gates import check
from recapture.tasks.pretrain.judge import judge
from recapture.tasks.pretrain.parts import Pretraining


def main(words: list[str] | None = None) -> None:
    """Train one part; judge it and check its gates, unless there are several workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--seconds", type=float, default=math.inf, help="Save and stop after this time.")
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings.")
    given, settings = parser.parse_known_args(words)
    try:
        config = load_pretrain_config(given.config, environment=os.environ, arguments=settings)
        run, until = Pretraining(config), time.monotonic() + given.seconds
        log = file_log(run.folder, given.part) if run.workers.first else _silent
        finished = run.finished(given.part) or run.train(given.part, log, until=until)
        if finished and run.workers.size == 1:
            scores = run.scores(given.part, judge)
            print(json.dumps({"part": given.part, "scores": scores}), flush=True)
            check(config, given.part, scores)
    except UserError as error:
        sys.exit(str(error))


def _silent(step: int, values: Mapping[str, float]) -> None:
    """Log nothing: the first worker does."""


if __name__ == "__main__":
    main()
