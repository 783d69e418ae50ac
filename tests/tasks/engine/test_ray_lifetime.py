"""Ray starts when it is needed, and ends with the executor that started it."""

import pytest
from support.scripted import Scripted, items

from recapture.tasks.engine.retry import RetryPolicy

pytestmark = pytest.mark.integration


@pytest.fixture
def ray():
    import ray
    from support import scripted

    assert not ray.is_initialized()
    ray.cloudpickle.register_pickle_by_value(scripted)
    yield ray
    ray.cloudpickle.unregister_pickle_by_value(scripted)
    ray.shutdown()


def test_nothing_to_do_starts_no_ray(ray, tmp_path, monkeypatch):
    from recapture.tasks.engine.ray_executor import RayExecutor

    monkeypatch.setattr(ray, "init", lambda **settings: pytest.fail("Ray was started"))
    with RayExecutor(str(tmp_path / "store")) as pool:
        assert pool.run(Scripted(str(tmp_path / "log")), [], lambda outcome: None, RetryPolicy()) == []
    assert not ray.is_initialized()


def test_work_starts_ray_and_the_end_stops_it(ray, tmp_path):
    from recapture.tasks.engine.ray_executor import RayExecutor

    with RayExecutor(str(tmp_path / "store"), workers=1) as pool:
        outcomes = pool.run(Scripted(str(tmp_path / "log")), items("ok"), lambda outcome: None, RetryPolicy())
        assert ray.is_initialized()
    assert [outcome.status for outcome in outcomes] == ["ok"]
    assert not ray.is_initialized()
