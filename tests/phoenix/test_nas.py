"""
The copy on a NAS: no fault of the share changes the weights or the local checkpoints, and once it works it holds verified copies.

Some tests need a real Samba server and skip without one; the others use a plain folder as the share.
"""

import hashlib
import json
import os
import re
import signal
import subprocess

import pytest

from phoenix import checkpoint, nas
from phoenix.config import UserError
from phoenix.files import sha256_file
from tests.servers.samba import PASSWORD, Samba
from tests.training import STEPS, at_step, losses, once, quick, run, wait_until, weights_hash

ALL_KEPT = [15, 20, 24]


@pytest.fixture(scope="module", autouse=True)
def quickly():
    with quick() as patch:
        patch.setattr(nas, "FIRST_RETRY", 0.05)
        patch.setattr(nas, "LAST_RETRY", 0.2)
        yield


@pytest.fixture
def samba(tmp_path, monkeypatch):
    (tmp_path / "samba").mkdir()
    server = Samba(tmp_path / "samba")
    monkeypatch.setenv(nas.PASSWORD, PASSWORD)
    server.start()
    yield server
    server.kill()


def assert_whole(out, straight):
    """The weights of the straight run, and every checkpoint that the manifest lists whole."""
    assert weights_hash(out) == weights_hash(straight)
    rows = checkpoint.read_manifest(out)["checkpoints"]
    assert [row["step"] for row in rows] == ALL_KEPT
    assert all(sha256_file(out / row["file"]) == row["sha256"] for row in rows)


def assert_copied(folder, out):
    """The share's folder holds what `out` holds, byte for byte, listed, and nothing else."""
    remote, local = checkpoint.read_manifest(folder), checkpoint.read_manifest(out)
    assert remote == local
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    files -= {"ckpt.pt", "manifest.json", ".lock"}
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"manifest.json"} == files
    for name in files:
        assert (folder / name).read_bytes() == (out / name).read_bytes(), name


def assert_secret(out, output):
    """The password is in no file of the run and in nothing that was printed."""
    assert PASSWORD not in output and PASSWORD.encode() not in b"".join(p.read_bytes() for p in out.rglob("*") if p.is_file())


def slow_file(monkeypatch, name, act, at=3):
    """Files go up in pieces of 4 KB; before piece number `at` of a file of that name act() is called, once."""
    chunks, done = nas.local_chunks, []
    monkeypatch.setattr(nas, "CHUNK", 4096)

    def local_chunks(path):
        for n, data in enumerate(chunks(path)):
            if path.name == name and n == at and not done:
                done.append(n)
                act()
            yield data

    monkeypatch.setattr(nas, "local_chunks", local_chunks)
    return done


# ---- against Samba ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_is_copied_and_resumed_from_the_share(tiny_data, straight_run, samba, tmp_path, monkeypatch, capsys):
    first, second, url = tmp_path / "first", tmp_path / "second", f"{samba.url}/runs/a b"
    with monkeypatch.context() as patch:
        at_step(patch, 13, once(lambda: os.kill(os.getpid(), signal.SIGTERM)))
        assert run(tiny_data, first, nas=url) == 143
    assert f"nas: {url} holds a verified copy of all" in capsys.readouterr().out
    folder = samba.share / "runs" / "a b"
    assert_copied(folder, first)

    newest = folder / "ckpt-00000013.pt"  # damaged on the share: refused by name, and the one before is fetched
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    assert run(tiny_data, second, resume_from=url, nas=url) == 0
    output = capsys.readouterr().out
    assert re.search(r"ckpt-00000013\.pt does not have the sha256.*refused\nfetching ckpt-00000010", output)
    assert "going on from step 10" in output
    assert_whole(second, straight_run)
    assert losses(second) == losses(straight_run)
    assert_copied(folder, second)
    assert_secret(second, output)

    assert run(tiny_data, tmp_path / "third", resume_from=f"{url}/ckpt-00000020.pt") == 0  # a certain one
    assert "going on from step 20" in capsys.readouterr().out
    assert weights_hash(tmp_path / "third") == weights_hash(straight_run)


@pytest.mark.slow
def test_a_server_killed_in_mid_upload_and_brought_back(tiny_data, straight_run, samba, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    killed = slow_file(monkeypatch, "ckpt-00000005.pt", samba.kill)

    failures, reason_of = [], nas.reason_of

    def counted(error, password_file):
        failures.append(error)
        return reason_of(error, password_file)

    def wait_and_start():
        wait_until(lambda: killed and len(failures) >= 2)  # training waits here for the copying thread
        samba.start()

    monkeypatch.setattr(nas, "reason_of", counted)
    at_step(monkeypatch, 9, once(wait_and_start))
    assert run(tiny_data, out, nas=samba.url) == 0
    output = capsys.readouterr().out
    assert killed and "nas: " in output and "training goes on" in output and "nas: works again" in output
    assert f"nas: {samba.url} holds a verified copy of all" in output
    assert_whole(out, straight_run)
    assert_copied(samba.share, out)


@pytest.mark.slow
def test_a_server_that_stays_away_costs_the_stated_wait_and_the_next_run_sends_all(
    tiny_data, straight_run, samba, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    killed = slow_file(monkeypatch, "ckpt-00000000.pt", samba.kill)
    at_step(monkeypatch, 1, once(lambda: wait_until(lambda: killed)))  # before newer checkpoints take its place
    assert run(tiny_data, out, nas=samba.url, nas_wait=0.005) == 0
    output = capsys.readouterr().out
    assert killed and re.search(
        r"lacks ckpt-00000015.pt, .*log.jsonl.* after 0 s of waiting \(.*refused.*the same command sends", output
    )
    assert_whole(out, straight_run)
    samba.start()
    assert run(tiny_data, out, nas=samba.url) == 0
    assert_whole(out, straight_run)
    assert_copied(samba.share, out)


@pytest.mark.slow
def test_a_full_share(tiny_data, straight_run, samba, tmp_path, capsys):
    out = tmp_path / "out"
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(samba.share)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        assert run(tiny_data, out, nas=samba.url, nas_wait=0.01) == 0
        output = capsys.readouterr().out
        assert "nas: the share is full" in output and "lacks ckpt-" in output
        assert_whole(out, straight_run)
        listed = checkpoint.read_manifest(samba.share)["checkpoints"]  # what it lists it holds whole
        assert all(sha256_file(samba.share / row["file"]) == row["sha256"] for row in listed)
        subprocess.run(["mount", "-o", "remount,size=8m", str(samba.share)], check=True)
        assert run(tiny_data, out, nas=samba.url) == 0
        assert_copied(samba.share, out)
    finally:
        samba.kill()
        subprocess.run(["umount", "--lazy", str(samba.share)], check=True)  # a killed child may not be gone yet


@pytest.mark.slow
def test_a_wrong_password_and_then_the_right_one_in_its_file(tiny_data, straight_run, samba, tmp_path, monkeypatch, capsys):
    out, file = tmp_path / "out", tmp_path / "password"
    monkeypatch.delenv(nas.PASSWORD)
    file.write_text("not it\n", encoding="utf-8")
    file.chmod(0o600)
    assert run(tiny_data, out, nas=samba.url, nas_password_file=file, nas_wait=0.04) == 0
    output = capsys.readouterr().out
    assert "nas: the user or the password is wrong" in output and "lacks ckpt-" in output and "not it" not in output
    assert_whole(out, straight_run)
    with pytest.raises(UserError, match=r"resume_from=.* cannot be read: the user or the password is wrong"):
        run(tiny_data, tmp_path / "other", nas_password_file=file, resume_from=samba.url)
    file.write_text(PASSWORD + "\n", encoding="utf-8")
    assert run(tiny_data, out, nas=samba.url, nas_password_file=file) == 0
    assert_copied(samba.share, out)
    assert_secret(out, capsys.readouterr().out)


@pytest.mark.slow
def test_a_share_that_turns_read_only(tiny_data, straight_run, samba, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    at_step(monkeypatch, 12, once(lambda: samba.read_only(True)))
    assert run(tiny_data, out, nas=samba.url, nas_wait=0.01) == 0
    output = capsys.readouterr().out
    assert "nas: access is denied, or the share is read-only" in output and "lacks ckpt-" in output
    assert_whole(out, straight_run)
    samba.read_only(False)
    assert run(tiny_data, out, nas=samba.url) == 0
    assert_copied(samba.share, out)


# ---- the mirror itself, on a folder ----------------------------------------------------------------------------------


def make_run(out, steps, run="r", keep=9):
    out.mkdir(exist_ok=True)
    for step in steps:
        state = {"format": checkpoint.FORMAT, "version": checkpoint.FORMAT_VERSION, "run": run, "step": step, "tokens": step}
        checkpoint.save_checkpoint(out, state, keep)


def mirrored(url, out, keep_last=9, keep_every=None):
    sentences = []
    mirror = nas.Mirror(url, out, keep_last, keep_every, say=sentences.append)
    last = mirror.close(20)
    return [*sentences, last]


def test_the_same_policy_prunes_the_share_as_the_folder(tmp_path):
    out, remote = tmp_path / "out", tmp_path / "share"
    for step in range(0, 50, 5):
        make_run(out, [step], keep=2)
        (remote / "ckpt-00000001.pt.partial").parent.mkdir(exist_ok=True)
        (remote / "ckpt-00000001.pt.partial").write_bytes(b"of an upload that was killed")
        assert "verified copy" in mirrored(f"file://{remote}", out, keep_last=2, keep_every=20)[-1]
    assert sorted(p.name for p in remote.glob("*")) == [f"ckpt-{n:08d}.pt" for n in (20, 40, 45)] + ["manifest.json"]
    assert [row["step"] for row in checkpoint.read_manifest(remote)["checkpoints"]] == [20, 40, 45]


@pytest.mark.parametrize("protocol", ["memory", "file", "s3"])
def test_every_file_system_holds_a_verified_copy_and_gives_it_back(protocol, tmp_path, request, monkeypatch):
    """Each tells in its own way that a file is not there: an errno, a type, or both."""
    out, again = tmp_path / "out", tmp_path / "again"
    if protocol == "s3":
        pytest.importorskip("s3fs")
        for name, value in request.getfixturevalue("bucket").items():
            monkeypatch.setenv(name, value)
    url = {"memory": f"memory://copies{tmp_path}", "file": f"file://{tmp_path}/copy", "s3": "s3://corpus/runs/copy"}[protocol]
    with pytest.raises(UserError, match=r"has no manifest\.json"):
        nas.fetch(url, again)
    for step in range(0, 25, 5):
        make_run(out, [step], keep=2)
        (out / "log.jsonl").write_text(f"of step {step}", encoding="utf-8")
        assert mirrored(url, out, keep_last=2) == [f"nas: {url} holds a verified copy of all"]
    nas.fetch(f"{url}/ckpt-00000015.pt", again, say=lambda text: None)
    assert (again / "ckpt-00000015.pt").read_bytes() == (out / "ckpt-00000015.pt").read_bytes()
    assert (again / "log.jsonl").read_text(encoding="utf-8") == "of step 20"
    assert set(nas.Share(url).sizes()) == {"ckpt-00000015.pt", "ckpt-00000020.pt", "log.jsonl", "manifest.json"}


def test_another_runs_folder_is_left_alone(tmp_path):
    out, other, remote = tmp_path / "out", tmp_path / "other", tmp_path / "share"
    make_run(out, [5]), make_run(other, [5], run="other")
    mirrored(f"file://{remote}", out)
    before = {path: path.read_bytes() for path in remote.iterdir()}
    mirror = nas.Mirror(f"file://{remote}", other, 9, None, say=lambda text: None)
    assert "holds the checkpoints of another run" in mirror.close(0.3)
    assert {path: path.read_bytes() for path in remote.iterdir()} == before


def test_files_of_others_in_the_folder_stay(tmp_path):
    out, remote = tmp_path / "out", tmp_path / "share"
    remote.mkdir()
    foreign = {"ckpt-best.pt", "ckpt-epoch3.pt", "thesis.partial", "ckpt-final.pt.partial", "notes.txt"}
    for name in foreign:
        (remote / name).write_text("mine", encoding="utf-8")
    for step in (5, 10, 15, 20):
        make_run(out, [step], keep=2)
        assert "verified copy" in mirrored(f"file://{remote}", out, keep_last=2)[-1]
        (remote / "ckpt-00000007.pt").write_text("mine", encoding="utf-8")  # of our kind of name, but no manifest has listed it
    assert {p.name for p in remote.iterdir() if p.read_bytes() == b"mine"} == foreign | {"ckpt-00000007.pt"}
    assert {p.name for p in remote.iterdir()} == foreign | {f"ckpt-{n:08d}.pt" for n in (7, 15, 20)} | {"manifest.json"}


def test_checkpoints_without_a_manifest_are_another_runs(tmp_path):
    out, remote = tmp_path / "out", tmp_path / "share"
    make_run(out, [5])
    remote.mkdir()
    (remote / "ckpt-00000005.pt").write_text("mine", encoding="utf-8")
    mirror = nas.Mirror(f"file://{remote}", out, 9, None, say=lambda text: None)
    assert "holds ckpt-00000005.pt of another run and no manifest.json" in mirror.close(0.3)
    assert [(p.name, p.read_text(encoding="utf-8")) for p in remote.iterdir()] == [("ckpt-00000005.pt", "mine")]


def test_what_arrives_damaged_is_sent_again(tmp_path, monkeypatch):
    out, remote, damaged = tmp_path / "out", tmp_path / "share", []
    make_run(out, [5])
    rename = nas.Share.chunks

    def chunks(self, name):
        for data in rename(self, name):
            bad = name.startswith("ckpt") and not damaged
            damaged.extend([name] if bad else [])
            yield data[:-1] + b"?" if bad else data

    monkeypatch.setattr(nas.Share, "chunks", chunks)
    output = mirrored(f"file://{remote}", out)
    assert damaged and "read back with another sha256" in output[0] and "verified copy" in output[-1]
    assert sha256_file(remote / "ckpt-00000005.pt") == checkpoint.read_manifest(out)["checkpoints"][0]["sha256"]


def test_ctrl_c_ends_the_wait_and_says_what_is_missing(tmp_path, monkeypatch):
    make_run(tmp_path / "out", [5])
    (tmp_path / "file").write_text("", encoding="utf-8")
    mirror = nas.Mirror(f"file://{tmp_path}/file/x", tmp_path / "out", 9, None, say=lambda text: None)

    def interrupted(secs):
        raise KeyboardInterrupt

    monkeypatch.setattr(mirror.idle, "wait", interrupted)
    assert "lacks ckpt-00000005.pt after 0 s of waiting" in mirror.close(600)


def test_a_rollback_removes_checkpoints_from_the_share_too(tmp_path):
    out, remote = tmp_path / "out", tmp_path / "share"
    make_run(out, [5, 10, 15])
    mirrored(f"file://{remote}", out)
    checkpoint.abandon_after(out, 5)
    mirrored(f"file://{remote}", out)
    assert [row["step"] for row in checkpoint.read_manifest(remote)["checkpoints"]] == [5]
    assert sorted(p.name for p in remote.glob("*.pt")) == ["ckpt-00000005.pt"]


def test_lag_counts_what_is_not_verified_on_the_share(tmp_path):
    out = tmp_path / "out"
    make_run(out, [5, 10])
    (tmp_path / "file").write_text("", encoding="utf-8")
    mirror = nas.Mirror(f"file://{tmp_path}/file/x", out, 9, None, say=lambda text: None)
    mirror.changed()
    assert mirror.lag()[0] == 2 and mirror.status().startswith("nas 2 behind, ")
    assert "lacks ckpt-00000005.pt, ckpt-00000010.pt after" in mirror.close(0.2)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("smb://user:s3c/retpw@host/share/x", "a password does not belong"),
        ("smb://user:s3c#retpw@host/share/x", "a password does not belong"),
        ("smb://user:s3c?retpw@host/share/x", "a password does not belong"),
        ("smb://user:s3c@retpw@host/share/x", "a password does not belong"),
        ("smbb://user:s3cretpw@host/share/x", "a password does not belong"),
        ("simplecache::smb://user:s3cretpw@host/share/x", "a password does not belong"),
        ("smb:user:s3cretpw@host/share/x", "lacks a host or a share"),
        ("smb://user@host:notaport/share", "host or port that cannot be"),
        ("smb://user@[::1/share", "host or port that cannot be"),
        ("smb://user@host/share?a=s3cretpw", "has a '[?]'"),
        ("simplecache::file:///s3cretpw", "fsspec knows|chains several"),
        ("smbb://user@host/s3cretpw", "smbb is not a protocol"),
    ],
)
def test_an_address_that_cannot_be_is_refused_and_never_shown(url, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        nas.check_settings(url, None)
    assert "s3c" not in str(error.value) and "retpw" not in str(error.value)


def test_a_package_that_a_protocol_needs_is_named_before_any_work(monkeypatch):
    def missing(_):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(nas.fsspec, "get_filesystem_class", missing)
    with pytest.raises(UserError, match=r"s3:// needs a package that is not installed: Install s3fs"):
        nas.check_settings("s3://bucket/run", None)


def test_addresses_that_can_be_are_taken():
    for url in ("memory://copy", "smb://user@host:445/share/a b", "smb://user@[::1]/share", "file:///dir", "out/copy", None):
        nas.check_settings(url, None)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"nas": "smb://user:secret@host/share"}, "a password does not belong into the address of a NAS"),
        ({"nas": "smb://host"}, "lacks a host or a share"),
        ({"nas": "smb://user@host/share", "nas_password_file": "no/such"}, "nas_password_file=no/such cannot be read"),
        ({"nas": "ftpx://host/share"}, "ftpx"),
        ({"resume_from": "file:///no/such/folder"}, "has no manifest.json"),
        ({"resume_from": "smb://user:secret@host/share"}, "a password does not belong"),
    ],
)
def test_mistakes_are_sentences_before_any_work(tiny_data, tmp_path, settings, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        run(tiny_data, tmp_path / "out", **settings)
    assert "secret" not in str(error.value) and not (tmp_path / "out").exists()


def test_a_password_file_that_others_can_read_is_refused(tmp_path):
    file = tmp_path / "password"
    file.write_text("secret\n", encoding="utf-8")
    file.chmod(0o640)
    with pytest.raises(UserError, match="can be read by others: chmod 600"):
        nas.check_settings("smb://user@host/share", file)
    file.chmod(0o600)
    assert nas.read_password(file) == "secret"
    file.write_bytes(b"secret\xff\n")
    with pytest.raises(UserError, match=r"is no text in UTF-8") as error:
        nas.read_password(file)
    assert "secret" not in str(error.value)


def test_a_manifest_from_elsewhere_cannot_name_a_file_outside_the_folder(tmp_path):
    remote = tmp_path / "share"
    make_run(remote, [5])
    manifest = checkpoint.read_manifest(remote)
    manifest["checkpoints"][0]["file"] = "../../ckpt-00000005.pt"
    (remote / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UserError, match="is not a manifest of checkpoints"):
        nas.fetch(f"file://{remote}", tmp_path / "out")


def test_the_run_that_was_copied_is_the_run_that_is_fetched(tmp_path):
    out, remote = tmp_path / "out", tmp_path / "share"
    make_run(remote, [5, 10])
    nas.fetch(f"file://{remote}", out, say=lambda text: None)
    assert (out / "ckpt-00000010.pt").read_bytes() == (remote / "ckpt-00000010.pt").read_bytes()
    assert checkpoint.newest_checkpoint(out)[0]["step"] == 10 and checkpoint.read_manifest(out)["run"] == "r"
    digest = hashlib.sha256((out / "ckpt-00000010.pt").read_bytes()).hexdigest()
    assert checkpoint.read_manifest(out)["checkpoints"][0]["sha256"] == digest and STEPS > 10


def test_a_checkpoint_that_was_put_and_never_listed_is_pruned_later(tmp_path):
    """A share that turns read-only between an upload and the list of it."""
    out, remote = tmp_path / "out", tmp_path / "share"
    make_run(out, [20, 25])
    mirrored(f"file://{remote}", out)
    manifest = json.loads((remote / "manifest.json").read_text(encoding="utf-8"))
    (remote / "manifest.json").write_text(json.dumps(manifest | {"put": ["ckpt-00000010.pt"]}), encoding="utf-8")
    (remote / "ckpt-00000010.pt").write_bytes(b"put by a process that died")
    (remote / "ckpt-00000011.pt").write_bytes(b"somebody else's")
    mirrored(f"file://{remote}", out)
    assert not (remote / "ckpt-00000010.pt").exists() and (remote / "ckpt-00000011.pt").exists()
    assert "put" not in json.loads((remote / "manifest.json").read_text(encoding="utf-8"))
