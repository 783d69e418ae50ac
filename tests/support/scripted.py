"""A stage that does to each item what the item's script says, and counts what it did in files."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel

from recapture.conf.errors import UserError
from recapture.conf.heartbeat import beat
from recapture.conf.turn import turn
from recapture.datasets.store.keys import content_key
from recapture.datasets.store.storage import StoreBusy, StoreFailed
from recapture.tasks.engine.retry import RetryPolicy
from recapture.tasks.engine.stage import Item, Resources


class ScriptConfig(BaseModel):
    setup: str = "works"


class TwoArguments(Exception):
    """An exception that cannot be unpickled by its arguments, as many libraries have."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"one {one}, two {two}")


@dataclass
class Scripted:
    """Writes x.json for items whose script is 'ok'."""

    log: str
    config: ScriptConfig = field(default_factory=ScriptConfig)
    resources: Resources = Resources()
    name: str = "scripted"
    version: str = "1"
    slots: int = 1
    parents: tuple[str, ...] = ()
    reads: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float | None = None
    places: tuple[str, ...] = ()
    state: dict[str, Any] = field(default_factory=dict)

    def check_inputs(self, params: Any) -> None:
        """Check nothing."""

    def setup(self) -> None:
        count(self.log, "setup")
        self.state["ready"] = True
        match self.config.setup:
            case "user error":
                raise UserError("no model in 'weights/none'; set depth.model")
            case "error":
                raise KeyError("patch_size")
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hangs":
                time.sleep(600)
            case "exits":
                sys.exit(3)
            case "loads long":
                for _ in range(80):
                    time.sleep(0.1)
                    beat()
            case "hangs once" if first(self.log, "hung"):
                time.sleep(600)

    def meet(self, tries: int) -> None:
        """At the first try, wait for another item in this process."""
        self.state["here"] = self.state.get("here", 0) + 1
        while tries == 1 and self.state["here"] < 2:
            time.sleep(0.02)

    def run(self, item: Item, inputs: Mapping[str, Any], output: Any) -> dict[str, float]:
        assert self.state["ready"]
        tries = count(self.log, f"run {item.name}")
        script = item.params or "ok"
        output.write_json("half.json", {})
        if self.state.get("gpu lost"):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if script == "fail":
            raise ValueError("depth has 3 non-finite frames (12, 13, 14); drop the clip")
        if script in ("kill in company", "sit in company"):
            self.meet(tries)
        if script == "kill in company":
            os.kill(os.getpid(), signal.SIGKILL)
        if script == "sit in company" and tries == 1:
            time.sleep(600)
        if script == "odd":
            raise TwoArguments(1, 2)
        if script == "silent":
            raise AssertionError
        if script == "throttled" or (script == "flaky" and tries < 3):
            raise ConnectionError(f"slow down (try {tries})")
        if script == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if script == "exit":
            os._exit(3)
        if script == "kill once" and tries == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if script == "hang" or (script == "hang once" and tries == 1):
            time.sleep(600)
        if script == "disk full":
            raise StoreFailed("/store cannot be written: No space left on device; free space")
        if script == "throttled store":
            raise StoreBusy(f"s3://b cannot be written: slow down (try {tries}); run the job again")
        if script == "cuda" or (script == "cuda once" and tries == 1):
            self.state["gpu lost"] = True
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors ...")
        if script == "memory" or (script == "memory once" and tries == 1):
            allocate_beyond_the_limit()
        if script == "cpu limit":
            resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
            while True:
                pass
        if script == "long":  # 10 s in small steps
            for _ in range(100):
                time.sleep(0.1)
                beat()
        if script == "busy":  # holds the interpreter for 5 s, then goes on
            ctypes.PyDLL(None).usleep(5_000_000)
        if script == "slow":
            started = time.time()
            time.sleep(3)
            output.write_json("span.json", [started, time.time()])
            output.write_json("moment.json", started)
        if script.startswith("turn"):  # of so many seconds
            with turn():
                count(self.log, f"turn {item.name}")
                started = time.time()
                time.sleep(float(script.split()[1]))
                output.write_json("span.json", [started, time.time()])
        if script == "node":
            import ray

            time.sleep(1)
            output.write_json("node.json", ray.get_runtime_context().get_node_id())
        if script == "moment":
            output.write_json("moment.json", time.time())
        if script == "threads":
            import cv2
            import torch

            output.write_json("threads.json", [torch.get_num_threads(), cv2.getNumThreads()])
        if script == "parent":
            output.write_json("parent.json", inputs["before"].read_json("x.json"))
        output.write_json("x.json", {"item": item.name})
        output.write_json("pid.json", os.getpid())
        return {"score": float(len(item.name))}


PARTS = ("a", "b", "c", "d", "e", "f")


@dataclass
class Parted(Scripted):
    """Items in parts, each of which takes 0.7 s; scripts that begin with "helper" do so to who helps."""

    def most_parts(self, item: Item) -> int:
        return len(self.parts(item, {}))

    def parts(self, item: Item, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        return () if item.params == "one piece" else PARTS

    def run_part(self, item: Item, inputs: Mapping[str, Any], name: str, output: Any) -> None:
        count(self.log, f"help {item.name}")
        if item.params == "helper dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if item.params == "helper fails":
            raise ValueError("this part cannot be made")
        if item.params == "helper hangs":
            time.sleep(600)
        self.work(item)
        output.write_json("pid.json", os.getpid())

    def run(self, item: Item, inputs: Mapping[str, Any], output: Any) -> dict[str, float]:
        pids, deadline = list[int](), time.monotonic() + 60
        while item.params != "one piece" and counted(self.log, "setup") < 2 and time.monotonic() < deadline:
            time.sleep(0.05)  # until there is somebody who could help
            beat()
        for name in PARTS:
            made = output.parts.finished(name)
            if made is None:
                self.work(item)
                with output.parts.create(name) as part:
                    part.write_json("pid.json", os.getpid())
            pids.append(os.getpid() if made is None else made.read_json("pid.json"))
        output.write_json("pids.json", pids)
        return {}

    def work(self, item: Item) -> None:
        count(self.log, f"part {item.name}")
        with turn():
            time.sleep(0.05 if item.params == "one piece" else 0.7)
        beat()


class Weighted(str):
    """A script of an item that is so much work."""

    weight: float = 0.0

    @classmethod
    def of(cls, script: str, weight: float) -> Weighted:
        made = cls(script)
        made.weight = weight
        return made


def allocate_beyond_the_limit() -> None:
    """Ask for more memory than this process may have."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 2**26, before[1]))
    try:
        bytearray(2**30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def count(log: str, event: str) -> int:
    """Note an event, from any process, and return how often it has happened."""
    folder = Path(log)
    folder.mkdir(parents=True, exist_ok=True)
    number = counted(log, event) + 1
    (folder / f"{event.replace('/', '_')}.{number}.{os.getpid()}.{time.monotonic_ns()}").touch()
    return number


def first(log: str, event: str) -> bool:
    """Return whether nobody else has come first, even among callers of the same moment."""
    try:
        (Path(log) / event).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def counted(log: str, event: str) -> int:
    return len(list(Path(log).glob(f"{event.replace('/', '_')}.*")))


def items(*scripts: str, stage: str = "scripted") -> list[Item]:
    """Return one item per script, called clip/0, clip/1 and so on, with keys that no other call gives."""
    call = uuid4().hex
    return [
        Item(
            f"clip/{number}",
            f"clip/{number}",
            content_key(stage, "1", {}, {}, {"number": number, "call": call}),
            params=script,
        )
        for number, script in enumerate(scripts)
    ]


QUICK = RetryPolicy(pause_seconds=0.05)


def work(executor, stage, todo, policy=QUICK, **settings):
    """Run and return item -> outcome; assert that each came once, and was reported once."""
    told = []
    with executor(**settings) as pool:
        outcomes = pool.run(stage, todo, told.append, policy)
    assert sorted(outcome.item for outcome in outcomes) == sorted(item.name for item in todo)
    assert told == outcomes
    return {outcome.item: outcome for outcome in outcomes}
