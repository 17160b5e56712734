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


@pytest.fixture(scope="session")
def nodes(bucket):
    """Two Ray nodes for all tests, which know the S3 server, and this process' session on them: a run need not start Ray."""
    from tests.servers import cluster

    with cluster.nodes() as nodes, cluster.joined(nodes):
        yield nodes


@pytest.fixture(scope="session")
def corpora(nodes, tmp_path_factory):
    """A folder with the corpora first/ and second/, configs one.py and two.py, and straight/, a run of one.py on this machine."""
    from tests import corpus, runs

    path = tmp_path_factory.mktemp("laws")
    corpus.write(path / "first", slice(0, 120))
    corpus.write(path / "second", slice(120, 160))
    runs.config(path / "one.py", path / "first")
    more = f', Local("second", {str(path / "second")!r}, share=0.3)'
    runs.config(path / "two.py", path / "first", 0.7, more)
    runs.run_alone(path / "one.py", path / "straight")
    return path


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """The data of tests/training.py's runs."""
    from tests.training import make_data

    return make_data(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="session")
def straight_run(tiny_data, tmp_path_factory):
    """The folder of a run on it that was never stopped."""
    from tests.training import PLOT, RunLog, quick, run

    out = tmp_path_factory.mktemp("straight") / "out"
    with quick() as patch:
        patch.setattr(RunLog, "plot", PLOT)
        assert run(tiny_data, out) == 0
    return out
