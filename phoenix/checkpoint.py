"""
Checkpoints that survive a kill at any moment: a file for each, written to a temporary name, fsynced, hashed, listed, renamed.

    ckpt-00001000.pt   torch.save of a dict that torch.load(weights_only=True) reads: format, version, run, model (state dict,
                       fp32), model_config, settings, step, tokens, optimizer, rng, tokenizer_sha256, shards_sha256, ...
    manifest.json      {"format", "version", "run", "checkpoints": [{"file", "step", "tokens", "bytes", "sha256", "saved_at"}],
                       "abandoned": [sha256 of checkpoints that a rollback took back]}
    ckpt.pt            a link to the newest

The manifest is what makes a file a checkpoint of this run: one that it does not list, or whose sha256 is another, is refused.
"""

import contextlib
import errno
import hashlib
import json
import os
import pickle
import re
import shutil
import time
import zipfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

import torch

from phoenix.config import UserError

FORMAT, FORMAT_VERSION = "phoenix-checkpoint", 1
MANIFEST = "manifest.json"
MANIFEST_FORMAT, MANIFEST_VERSION = "phoenix-manifest", 1


# ---- one file --------------------------------------------------------------------------------------------------------


def sha256_of(path):
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_checkpoint(path, map_location="cpu", sha256=None):
    """
    The checkpoint that train.py wrote, a dict: format, version, model (state dict), model_config, settings, step, tokens, ...

    UserError where the file is missing, truncated, damaged (its sha256 is compared, or without one each part's CRC-32:
    torch.load alone takes a flipped bit for a weight) or not a checkpoint of Phoenix.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        if sha256 is not None:
            if sha256_of(path) != sha256:
                raise UserError(f"checkpoint {path} is damaged: its sha256 is not the one in {MANIFEST}")
        else:
            with zipfile.ZipFile(path) as parts:
                damaged = parts.testzip()
            if damaged is not None:
                raise UserError(f"checkpoint {path} is damaged: the checksum of its part {damaged} is wrong")
        found = torch.load(path, map_location=map_location, weights_only=True)
    except (zipfile.BadZipFile, pickle.UnpicklingError, EOFError, RuntimeError, ValueError, KeyError, OSError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"checkpoint {path} is not a whole torch file: {type(error).__name__}: {reason}") from error
    wanted = (FORMAT, FORMAT_VERSION)
    if not isinstance(found, dict) or (found.get("format"), found.get("version")) != wanted:
        raise UserError(f"{path} is not a checkpoint of Phoenix ({FORMAT}, version {FORMAT_VERSION})")
    return found


def write_atomically(path, data):
    """bytes -> the file, whole or not at all, also when the power goes."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)  # a full disk needs the room
        raise
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder):
    """A rename is safe from a power cut once its folder is written."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


# ---- the manifest ----------------------------------------------------------------------------------------------------


def parse_manifest(data, name):
    """bytes of a manifest.json -> dict; UserError where they are something else."""
    try:
        found = json.loads(data)
        if (found["format"], found["version"]) != (MANIFEST_FORMAT, MANIFEST_VERSION):
            raise ValueError(f"it is {found['format']} {found['version']}")
        for row in found["checkpoints"]:
            if not re.fullmatch(r"ckpt-\d{8,}\.pt", row["file"]) or len(row["sha256"]) != 64 or not isinstance(row["step"], int):
                raise ValueError(f"{row['file']!r} is no checkpoint's name or hash")
        return found | {"run": str(found["run"]), "abandoned": list(found["abandoned"])}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{name} is not a manifest of checkpoints: {type(error).__name__}: {error}") from error


def read_manifest(out):
    """The folder's manifest, None where there is none. UserError where it is damaged."""
    path = Path(out) / MANIFEST
    return parse_manifest(path.read_bytes(), path) if path.is_file() else None


def write_manifest(out, manifest):
    ordered = manifest | {"checkpoints": sorted(manifest["checkpoints"], key=lambda row: row["step"])}
    write_atomically(Path(out) / MANIFEST, json.dumps(ordered, indent=1).encode())
    return ordered


def new_manifest(run):
    return {"format": MANIFEST_FORMAT, "version": MANIFEST_VERSION, "run": run, "checkpoints": [], "abandoned": []}


def steps_to_keep(steps, last, every):
    """The newest `last` of the steps; with `every` also the first at or after each multiple of it. -> set"""
    steps = sorted(steps)
    kept, passed = set(steps[-last:]), 0
    for step in steps if every else ():
        if step // every > passed:
            kept.add(step)
            passed = step // every
    return kept


# ---- a run's folder --------------------------------------------------------------------------------------------------


def save_checkpoint(out, state, keep_last=2, keep_every=None):
    """
    `state` as out/ckpt-STEP.pt, listed with its sha256, and ckpt.pt a link to it; then what need not be kept is removed.

    UserError where the disk does not take it; the checkpoints before stay whole.
    """
    path = out / f"ckpt-{state['step']:08d}.pt"
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        row = {"file": path.name, "step": state["step"], "tokens": state["tokens"], "bytes": temporary.stat().st_size}
        row |= {"sha256": sha256_of(temporary), "saved_at": time.time()}
        manifest = read_manifest(out) or new_manifest(state.get("run", ""))
        there = [r for r in manifest["checkpoints"] if r["step"] != row["step"] and (out / r["file"]).is_file()]
        before = [r["sha256"] for r in manifest["checkpoints"] if r["file"] == path.name and path.is_file()]
        # before the rename: a checkpoint that is there is always listed, one that is being replaced under both its hashes
        write_manifest(out, manifest | {"checkpoints": [*there, row | ({"replaces": before[0]} if before else {})]})
        temporary.replace(path)
        sync_folder(out)
        link_newest(out, path)
        kept = steps_to_keep([r["step"] for r in [*there, row]], keep_last, keep_every)
        write_manifest(out, manifest | {"checkpoints": [r for r in [*there, row] if r["step"] in kept]})
        for file in checkpoint_files(out):
            if step_of(file) not in kept and step_of(file) < row["step"]:
                file.unlink()
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        why = "the disk is full" if is_full(out, error) else error  # asked before room is made
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise UserError(f"checkpoint of step {state['step']} could not be written to {path}: {why}") from error


def is_full(folder, error):
    """Whether an error of a write comes from a full disk; torch.save's says nothing of it, so what is free is asked too."""
    try:
        return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or shutil.disk_usage(folder).free < 2**20
    except OSError:
        return False


def settle(out, manifest):
    """The manifest after a kill while a checkpoint was being replaced: the row of the one that is there. -> manifest"""
    for row in [row for row in manifest["checkpoints"] if "replaces" in row]:
        before, path = row.pop("replaces"), out / row["file"]
        if path.is_file() and sha256_of(path) == before:
            row |= {"sha256": before, "bytes": path.stat().st_size}
        write_manifest(out, manifest)
    return manifest


@contextlib.contextmanager
def locked(out):
    """
    Holds out/.lock, so that no second run writes there, and removes the checkpoints that a killed one left half-written.

    UserError where another holds it, or the folder cannot be written. A folder in which nothing was made is removed again.
    """
    lock = out / ".lock"
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = lock.open("ab")
    except OSError as error:
        raise UserError(f"out={out} cannot be written: {error}") from error
    with file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another run is writing to out={out}: wait for its end, or give another out=") from error
        except OSError:
            pass  # a file system without locks: better without than not at all
        try:
            for path in out.glob("ckpt-*.pt.tmp"):
                if re.fullmatch(r"ckpt-\d{8,}\.pt\.tmp", path.name):
                    path.unlink()
            yield
        finally:
            with contextlib.suppress(OSError):
                if [path.name for path in out.iterdir()] == [lock.name]:
                    lock.unlink()
                    out.rmdir()


def link_newest(out, path):
    """out/ckpt.pt -> the newest checkpoint, for whoever wants no other: a symbolic link, on a disk without them a copy."""
    link = out / "ckpt.pt.tmp"
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(path.name)
    except OSError:
        shutil.copyfile(path, link)
    link.replace(out / "ckpt.pt")


def step_of(path):
    return int(path.stem.split("-")[1])


def checkpoint_files(out):
    """The checkpoints' paths by step, the oldest first."""
    return sorted((path for path in Path(out).glob("ckpt-*.pt") if re.fullmatch(r"ckpt-\d{8,}\.pt", path.name)), key=step_of)


def newest_checkpoint(out, at_most=None):
    """
    (the newest valid checkpoint in `out`, of a step of `at_most` or before; or None), [a sentence for each that was refused].

    What is refused is set aside as NAME.damaged once a valid one has been found: else the next rerun would meet it again.
    UserError where there are checkpoints but none is valid, unless at_most is given: to begin anew is not for a program to decide.
    """
    files = checkpoint_files(out)
    if not files and not (out / "ckpt.pt").exists():
        return None, []
    refused, said = [], []
    try:
        manifest = read_manifest(out)
        if manifest is not None:
            manifest = settle(out, manifest)
    except UserError as error:
        manifest = None
        said.append(f"{error}; it is written anew, and the checkpoints are judged by their checksums alone")
    sha256s = None if manifest is None else {row["file"]: row["sha256"] for row in manifest["checkpoints"]}
    for path in reversed(files or [out / "ckpt.pt"]):
        if at_most is not None and files and step_of(path) > at_most:
            continue
        try:
            if sha256s is not None and path.name not in sha256s:
                raise UserError(f"checkpoint {path} is foreign: {MANIFEST} does not list it")
            found = load_checkpoint(path, sha256=None if sha256s is None else sha256s[path.name])
        except UserError as error:
            refused.append(path)
            said.append(str(error))
            continue
        for bad in refused:
            bad.replace(bad.with_name(bad.name + ".damaged"))
        if refused:
            said.append(f"set aside as {', '.join(p.name + '.damaged' for p in refused)}; {path}, step {found['step']}, is used")
            link_newest(out, path)
        if manifest is None or refused:
            adopt(out, found.get("run", ""), manifest)
        return found, said
    if at_most is not None:
        return None, said
    raise UserError("; ".join(said) + "; there is no whole one before: delete them to begin anew")


def adopt(out, run, manifest):
    """A manifest of the checkpoints that are in the folder: what was refused leaves it, and a lost one is made again."""
    known = {} if manifest is None else {row["file"]: row for row in manifest["checkpoints"]}
    rows = []
    for path in checkpoint_files(out):
        if manifest is None:
            try:
                found = load_checkpoint(path)
            except UserError:
                continue
            known[path.name] = {"file": path.name, "step": found["step"], "tokens": found["tokens"]}
            known[path.name] |= {"bytes": path.stat().st_size, "sha256": sha256_of(path), "saved_at": path.stat().st_mtime}
        rows += [known[path.name]] if path.name in known else []
    write_manifest(out, (manifest or new_manifest(run)) | {"checkpoints": rows})


def abandon_after(out, step):
    """Removes the checkpoints after `step`: after a rollback they belong to a way that is not gone on with."""
    manifest = read_manifest(out)
    gone = [row for row in manifest["checkpoints"] if row["step"] > step]
    if gone:
        manifest["checkpoints"] = [row for row in manifest["checkpoints"] if row["step"] <= step]
        manifest["abandoned"] += [row["sha256"] for row in gone]
        link_newest(out, out / f"ckpt-{step:08d}.pt")
        write_manifest(out, manifest)
        for row in gone:
            (out / row["file"]).unlink(missing_ok=True)


# ---- going on with a run ---------------------------------------------------------------------------------------------

# settings that change what is kept and seen of a run, not its weights: these, and those of these kinds
NO_MATTER = ("data", "out", "plan", "card", "verify", "gpu_memory_gb", "sample_tokens", "resume_from")
NO_MATTER_KINDS = ("eval_", "zero_shot_", "log_", "ckpt_", "keep_", "nas")
FIXED = ("seq_len", "tokens_per_step", "seed", "optimizer")  # with the sizes of the model: a run has these for good


def changed_settings(saved, now, path):
    """
    "lr 0.01 -> 0.02, ...": settings that differ between a checkpoint's state and `now`, and change the weights; "" where none do.

    UserError where `now` cannot go on from it.
    """
    for name in ("tokenizer_sha256", "shards_sha256"):
        if saved[name] != now[name]:
            raise UserError(f"{path} was trained on other data ({name} differs): give another out=, or the data it began with")
    old, new = saved["settings"] | saved["model_config"], now["settings"] | now["model_config"]
    differ = [name for name in new if old.get(name) != new[name]]
    changed = [name for name in differ if name not in NO_MATTER and not name.startswith(NO_MATTER_KINDS)]
    for name in changed:
        if name in now["model_config"] or name in FIXED:
            raise UserError(f"{path} has {name}={old.get(name)}, now {name}={new[name]}: give another out=, or the old value")
    return ", ".join(f"{name} {old.get(name)} -> {new[name]}" for name in changed)
