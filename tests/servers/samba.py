"""A real Samba server on a loopback port, with one share and one user, for the tests of nas.py."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest

PASSWORD = "correct horse: battery/staple@9"  # its ':', '/' and '@' have a meaning in addresses

CONFIG = """
[global]
    server role = standalone server
    smb ports = {port}
    interfaces = lo
    bind interfaces only = yes
    disable netbios = yes
    load printers = no
    disable spoolss = yes
    map to guest = never
    passdb backend = smbpasswd:{base}/smbpasswd
    private dir = {base}/private
    lock directory = {base}/lock
    state directory = {base}/state
    cache directory = {base}/cache
    pid directory = {base}/pid
    ncalrpc dir = {base}/ncalrpc
    log file = {base}/log
    log level = 0
[nas]
    path = {share}
    valid users = {user}
    read only = {read_only}
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Samba:
    """A server that can be killed and started again; read_only(True) restarts it, as an administrator would."""

    def __init__(self, base):
        if shutil.which("smbd") is None:
            pytest.skip("smbd is not installed: apt-get install samba")
        self.base, self.share, self.port, self.user = base, base / "share", free_port(), getpass.getuser()
        self.url, self.process = f"smb://{self.user}@127.0.0.1:{self.port}/nas", None
        for name in ("share", "private", "lock", "state", "cache", "pid", "ncalrpc"):
            (base / name).mkdir()
        self.configure(read_only=False)
        command = ["smbpasswd", "-c", str(base / "smb.conf"), "-a", "-s", self.user]
        done = subprocess.run(command, input=f"{PASSWORD}\n{PASSWORD}\n", capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a user of the test's Samba server could not be made: {done.stderr.strip() or done.stdout.strip()}")

    def configure(self, read_only):
        settings = {"base": self.base, "share": self.share, "port": self.port, "user": self.user}
        (self.base / "smb.conf").write_text(CONFIG.format(**settings, read_only="yes" if read_only else "no"))

    def start(self):
        command = ["smbd", "--foreground", "--no-process-group", f"--configfile={self.base / 'smb.conf'}"]
        with (self.base / "smbd.out").open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)
        for _ in range(500):
            if self.process.poll() is not None:
                pytest.skip(f"smbd does not start here: {(self.base / 'smbd.out').read_text()[-500:]}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        pytest.skip("smbd does not answer")

    def kill(self):
        """Sends SIGKILL to the server and to its children that serve connections, a process group of their own."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def read_only(self, value):
        self.kill()
        self.configure(read_only=value)
        self.start()
