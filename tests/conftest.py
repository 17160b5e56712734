"""Hypothesis without a deadline (the first example compiles a kernel), the same examples on every run; two Ray nodes for all."""

import pytest
from hypothesis import settings

settings.register_profile("phoenix", deadline=None, derandomize=True)
settings.load_profile("phoenix")


@pytest.fixture(scope="session")
def bucket():
    """The environment of an S3 server with an empty bucket."""
    from tests.servers import cluster

    with cluster.s3() as env:
        yield env


@pytest.fixture(scope="module")
def nodes(bucket):
    """Two Ray nodes for a module, which know the S3 server: runs that join them need not start a Ray of their own."""
    from tests.servers import cluster

    with cluster.nodes() as found:
        yield found


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """The run folder of the data engine that tests/training.py's runs train on."""
    from tests.training import make_data

    return make_data(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="session")
def straight_run(tiny_data, tmp_path_factory):
    """The folder of a run on tiny_data that was never stopped."""
    from tests.training import PLOT, RunLog, quick, run

    out = tmp_path_factory.mktemp("straight") / "out"
    with quick() as patch:
        patch.setattr(RunLog, "plot", PLOT)
        assert run(tiny_data, out) == 0
    return out
