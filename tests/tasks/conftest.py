"""One small Ray for all tests of a module, and both executors under one name."""

from contextlib import contextmanager

import pytest


@pytest.fixture(scope="module")
def ray_cluster():
    """A Ray of two CPUs that executors join."""
    import ray
    from support import scripted

    ray.cloudpickle.register_pickle_by_value(scripted)  # workers have another path
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(scripted)


@pytest.fixture(scope="module")
def warm_pool(ray_cluster, tmp_path_factory):
    """A pool that tests share: a worker takes seconds to start."""
    from recapture.tasks.engine.ray_executor import RayExecutor

    with RayExecutor(str(tmp_path_factory.mktemp("pool") / "store")) as pool:
        yield pool


class PoolApart:
    """At most one pool with settings of its own, kept for the next test that wants the same."""

    def __init__(self):
        self.pool, self._settings = None, None

    def open(self, root, settings):
        from recapture.tasks.engine.ray_executor import RayExecutor

        if self._settings != (root, settings):
            self.close()
            self.pool, self._settings = RayExecutor(root, **settings).__enter__(), (root, settings)
        return self.pool

    def release(self):
        if self.pool is not None:
            self.pool.release()

    def close(self):
        if self.pool is not None:
            self.pool.__exit__(None, None, None)
        self.pool, self._settings = None, None


@pytest.fixture(scope="module")
def pool_apart(ray_cluster):
    pool = PoolApart()
    yield pool
    pool.close()


@pytest.fixture
def store_root(request, tmp_path):
    """Where the executor of this test stores. Tests of a pool share its store; no two items share a key."""
    if "warm_pool" not in request.fixturenames and _kind(request) != "ray":
        return str(tmp_path / "store")
    return request.getfixturevalue("warm_pool").store_root


@pytest.fixture(params=["inline", pytest.param("ray", marks=pytest.mark.integration)])
def executor(request, store_root):
    """Return a function that opens an executor on `store_root`."""
    return _opener(request, request.param, store_root)


@pytest.fixture
def ray_executor(request, warm_pool, store_root):
    """As `executor`, on Ray only; settings open a pool apart, which the tests of a module share as well."""
    return _opener(request, "ray", store_root)


@pytest.fixture(scope="session")
def mlflow_home(tmp_path_factory):
    """MLflow's database and its root of artifacts, shared by all tests: to migrate one takes seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    return f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()


@pytest.fixture
def client(mlflow_home):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=mlflow_home[0])


def _kind(request):
    callspec = getattr(request.node, "callspec", None)
    return callspec.params.get("executor") if callspec else None


def _opener(request, kind, root):
    from recapture.tasks.engine.executor import InlineExecutor

    @contextmanager
    def opened(**settings):
        if kind == "inline":
            with InlineExecutor(root) as inline:
                yield inline
        elif not settings:
            request.getfixturevalue("pool_apart").release()  # its workers hold the CPUs
            yield request.getfixturevalue("warm_pool")
        else:
            request.getfixturevalue("warm_pool").release()
            yield request.getfixturevalue("pool_apart").open(root, settings)

    return opened
