"""Two Ray nodes of one core each, and an S3 server, all on this machine, for the tests of runs beyond one machine."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from tests.fixtures import ROOT

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
BUCKET = "corpus"


class Nodes:
    """A cluster of a head and a second node, which can be killed and brought back."""

    def __init__(self, folder):
        self.options = {"num_cpus": 1, "object_store_memory": 200 << 20, "include_dashboard": False}
        self.folder, self.cluster = folder, None
        self.start()

    def start(self):
        """Starts two nodes, after stopping those that run."""
        from ray.cluster_utils import Cluster

        if self.cluster:
            self.cluster.shutdown()
        with starting():
            self.cluster = Cluster(initialize_head=True, head_node_args=self.options | {"temp_dir": self.folder})
        self.address = self.cluster.address
        self.add_second()

    def workers(self):
        """Process ids of the workers that are at a task."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command, parent = (process / "cmdline").read_bytes(), (process / "stat").read_text().rsplit(")", 1)[1].split()[1]
            except OSError:
                continue  # it has ended
            at_task = command.startswith(b"ray::") and b"IDLE" not in command and b"Actor" not in command
            if at_task and int(parent) in self.raylets():
                found.append(int(process.name))
        return sorted(found)

    def raylets(self):
        """Process ids of the nodes' raylets, the parents of their workers."""
        nodes = (node.all_processes for node in self.cluster.list_all_nodes())
        return {processes["raylet"][0].process.pid for processes in nodes if "raylet" in processes}

    def kill_second(self):
        self.cluster.remove_node(self.second, allow_graceful=False)  # SIGKILL

    def add_second(self):
        with starting():
            self.second = self.cluster.add_node(**self.options)


@contextmanager
def starting():
    """While Ray starts: its workers are to find the project, and SIGTERM, which it takes, is to stay this process' own."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        with mock.patch.dict(os.environ, {"PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "0"}):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def nodes():
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:  # sockets want a short path
        cluster = Nodes(folder)
        try:
            yield cluster
        finally:
            cluster.cluster.shutdown()


@contextmanager
def joined(nodes):
    """This process has a Ray session on the nodes: the runs in it use it, and their workers stay warm from run to run."""
    import logging

    import ray

    with starting():
        ray.init(nodes.address, logging_level=logging.ERROR, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def s3():
    """The environment of programs that are to use an S3 server with an empty bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    env = KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    before = {name: os.environ.get(name) for name in env}
    os.environ.update(env)
    try:
        import boto3
        from botocore.exceptions import BotoCoreError

        deadline = time.monotonic() + 60
        while True:
            try:
                boto3.client("s3").create_bucket(Bucket=BUCKET)
                break
            except BotoCoreError:  # it does not listen yet
                if time.monotonic() > deadline or server.poll() is not None:
                    raise
                time.sleep(0.2)
        yield env
    finally:
        server.kill()
        server.wait()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
