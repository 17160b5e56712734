"""
Checkpoints that survive a kill at any moment: each is one file, written whole, hashed, listed in the manifest, renamed.

    ckpt-00001000.pt   torch.save of a dict that torch.load(weights_only=True) reads: format, version, model (state dict, fp32),
                       model_config, settings, tokenizer_sha256, shards_sha256, optimizer, rng, and the fields of RunState
    manifest.json      {"format", "version", "run", "checkpoints": [{"file", "step", "tokens", "bytes", "sha256", "saved_at"}],
                       "abandoned": [sha256 of checkpoints that a rollback removed]}
    ckpt.pt            a link to the newest

The manifest makes a file a checkpoint of this run: a file that it does not list, or with another sha256, is refused.
"""

import contextlib
import errno
import json
import re
import shutil
import time
import uuid
import zipfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

import torch

from phoenix.config import UserError
from phoenix.files import atomic, disk_is_full, remove_leftovers, sha256_file, write_atomic

FORMAT, FORMAT_VERSION = "phoenix-checkpoint", 1
MANIFEST = "manifest.json"
MANIFEST_FORMAT, MANIFEST_VERSION = "phoenix-manifest", 1
NAME = re.compile(r"ckpt-\d{8,}\.pt")


# ---- what a checkpoint holds -----------------------------------------------------------------------------------------


@dataclass
class RunState:
    """The progress of a run besides its tensors; each field is a key of the checkpoint."""

    run: str = field(default_factory=lambda: uuid.uuid4().hex)  # id of the run: a NAS folder takes the checkpoints of one run
    step: int = 0  # steps done, those whose update was skipped included
    tokens: int = 0  # trained on
    secs: float = 0.0  # of training, over all processes of the run
    kwh: float = 0.0  # drawn by the GPU
    rollbacks: int = 0
    skipped: int = 0  # updates left out because loss or gradient was not finite
    bad_in_a_row: int = 0  # such steps directly before this one
    losses: list[float] = field(default_factory=list)  # the last guards.HISTORY finite ones
    left_out: list[int] = field(default_factory=list)  # steps of the data that rollbacks excluded
    first_val_loss: float | None = None  # before the first step, in nats per token
    first_val_bpb: float | None = None  # in bits per byte
    val_loss: float | None = None  # the newest
    val_bpb: float | None = None


def header(model_config, settings, data):
    """What identifies a run: its model, its settings (a dict) and its data (of batches.open_data)."""
    found = {"format": FORMAT, "version": FORMAT_VERSION, "model_config": asdict(model_config), "settings": settings}
    return found | {"tokenizer_sha256": data.tokenizer_sha256, "shards_sha256": data.shards_sha256}


def tensors(model, optimizer, device):
    """The rest of a checkpoint: weights, moments and random state."""
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": device.rng_state()}


def restore(saved, model, optimizer, device):
    """Loads a checkpoint's weights, moments and random state. -> its RunState"""
    model.load_state_dict(saved["model"])
    from_settings = [{name: v for name, v in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(saved["optimizer"])
    for group, values in zip(optimizer.param_groups, from_settings, strict=True):
        group.update(values)  # weight_decay and the like come from the settings, not from the checkpoint
    device.set_rng_state(saved["rng"])
    return RunState(**{f.name: saved[f.name] for f in fields(RunState) if f.name in saved})


# ---- one file --------------------------------------------------------------------------------------------------------


def load_checkpoint(path, map_location="cpu", sha256=None):
    """
    The checkpoint that train.py wrote, a dict: format, version, model (state dict), model_config, settings, step, tokens, ...

    UserError where the file is missing, truncated, damaged or not a checkpoint of Phoenix. Damage shows in the sha256, given or
    of the manifest beside the file, or without one in each part's CRC-32: torch.load alone would load a flipped bit as a weight.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    sha256s = [sha256] if sha256 is not None else listed_sha256s(path)
    try:
        if sha256s:
            if sha256_file(path) not in sha256s:
                raise UserError(f"checkpoint {path} is damaged: its sha256 is not the one in {MANIFEST}")
        else:
            with zipfile.ZipFile(path) as parts:
                damaged = parts.testzip()
            if damaged is not None:
                raise UserError(f"checkpoint {path} is damaged: the checksum of its part {damaged} is wrong")
        found = torch.load(path, map_location=map_location, weights_only=True)
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # damage makes torch, pickle, zipfile and zlib raise almost anything
        reason = str(error).split("\n")[0]
        raise UserError(f"checkpoint {path} is not a whole torch file: {type(error).__name__}: {reason}") from error
    if not isinstance(found, dict) or (found.get("format"), found.get("version")) != (FORMAT, FORMAT_VERSION):
        raise UserError(f"{path} is not a checkpoint of Phoenix ({FORMAT}, version {FORMAT_VERSION})")
    return found


def write_torch(contents, path):
    """torch.save; OSError where the disk is full, which torch reports as a RuntimeError."""
    try:
        with path.open("wb") as file:
            torch.save(contents, file)
    except RuntimeError as error:
        if disk_is_full(path.parent):
            raise OSError(errno.ENOSPC, "No space left on device") from error
        raise


# ---- the manifest ----------------------------------------------------------------------------------------------------


def parse_manifest(data, name):
    """bytes of a manifest.json -> dict; UserError where they are something else."""
    try:
        found = json.loads(data)
        if (found["format"], found["version"]) != (MANIFEST_FORMAT, MANIFEST_VERSION):
            raise ValueError(f"it is {found['format']} {found['version']}")
        for row in found["checkpoints"]:
            if not NAME.fullmatch(row["file"]) or len(row["sha256"]) != 64 or not isinstance(row["step"], int):
                raise ValueError(f"{row['file']!r} is no checkpoint's name or hash")
        return found | {"run": str(found["run"]), "abandoned": list(found["abandoned"])}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{name} is not a manifest of checkpoints: {type(error).__name__}: {error}") from error


def read_manifest(out):
    """The folder's manifest; None where there is none. UserError where it is damaged."""
    path = Path(out) / MANIFEST
    return parse_manifest(path.read_bytes(), path) if path.is_file() else None


def write_manifest(out, manifest):
    rows = sorted(manifest["checkpoints"], key=lambda row: row["step"])
    write_atomic(Path(out) / MANIFEST, json.dumps(manifest | {"checkpoints": rows}, indent=1))


def new_manifest(run):
    return {"format": MANIFEST_FORMAT, "version": MANIFEST_VERSION, "run": run, "checkpoints": [], "abandoned": []}


def listed_sha256s(path):
    """What the manifest beside a checkpoint, or beside the file that ckpt.pt links to, says of its sha256; [] without one."""
    path = Path(path).resolve()
    try:
        manifest = read_manifest(path.parent)
    except (UserError, OSError):
        return []
    rows = [row for row in manifest["checkpoints"] if row["file"] == path.name] if manifest else []
    return [row[key] for row in rows for key in ("sha256", "replaces") if key in row]


def repair_manifest(out, manifest):
    """The manifest after a kill between its writing and the replacement of a checkpoint: the row of the file that is there."""
    for row in [row for row in manifest["checkpoints"] if "replaces" in row]:
        old_sha256, path = row.pop("replaces"), out / row["file"]
        if path.is_file() and sha256_file(path) == old_sha256:
            row |= {"sha256": old_sha256, "bytes": path.stat().st_size}
        write_manifest(out, manifest)
    return manifest


def rebuild_manifest(out, run, manifest):
    """Writes a manifest of the whole checkpoints in the folder: without refused ones, and where it was lost (None) anew."""
    rows = {} if manifest is None else {row["file"]: row for row in manifest["checkpoints"]}
    for path in checkpoint_files(out) if manifest is None else ():
        with contextlib.suppress(UserError):
            found, stat = load_checkpoint(path), path.stat()
            rows[path.name] = {"file": path.name, "step": found["step"], "tokens": found["tokens"], "bytes": stat.st_size}
            rows[path.name] |= {"sha256": sha256_file(path), "saved_at": stat.st_mtime}
    there = [rows[path.name] for path in checkpoint_files(out) if path.name in rows]
    write_manifest(out, (manifest or new_manifest(run)) | {"checkpoints": there})


def steps_to_keep(steps, last, every):
    """The newest `last` of the steps; with `every` also the first at or after each multiple of it. -> set"""
    steps = sorted(steps)
    kept, multiple = set(steps[-last:]), 0
    for step in steps if every else ():
        if step // every > multiple:
            kept.add(step)
            multiple = step // every
    return kept


# ---- a run's folder --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(out):
    """
    Holds out/.lock, so that no second run writes there, and removes files that a killed run left half-written.

    UserError where another run holds it, or the folder cannot be written. A folder that stays empty is removed again.
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
            pass  # a file system without locks: training without one is better than none
        try:
            remove_leftovers(out, below=False)
            yield
        finally:
            with contextlib.suppress(OSError):
                if [path.name for path in out.iterdir()] == [lock.name]:
                    lock.unlink()
                    out.rmdir()


def save_checkpoint(out, contents, keep_last=2, keep_every=None):
    """
    Writes `contents` as out/ckpt-STEP.pt, lists its sha256, links ckpt.pt to it, and removes checkpoints that need not be kept.

    UserError where the disk is full or fails; the earlier checkpoints stay whole.
    """
    path = out / f"ckpt-{contents['step']:08d}.pt"
    try:
        with atomic(path) as temporary:
            write_torch(contents, temporary)
            row = {"file": path.name, "step": contents["step"], "tokens": contents["tokens"], "bytes": temporary.stat().st_size}
            row |= {"sha256": sha256_file(temporary), "saved_at": time.time()}
            manifest = read_manifest(out) or new_manifest(contents.get("run", ""))
            others = [r for r in manifest["checkpoints"] if r["step"] != row["step"] and (out / r["file"]).is_file()]
            old = [r["sha256"] for r in manifest["checkpoints"] if r["file"] == path.name and path.is_file()]
            # before the rename: so every file there is listed, and one that is being replaced under both of its hashes
            write_manifest(out, manifest | {"checkpoints": [*others, row | ({"replaces": old[0]} if old else {})]})
        link_newest(out, path)
        kept = steps_to_keep([r["step"] for r in [*others, row]], keep_last, keep_every)
        write_manifest(out, manifest | {"checkpoints": [r for r in [*others, row] if r["step"] in kept]})
        for file in checkpoint_files(out):
            if step_of(file) not in kept and step_of(file) < row["step"]:
                file.unlink()
    except (OSError, RuntimeError) as error:
        why = "the disk is full" if disk_is_full(out, error) else error
        raise UserError(f"checkpoint of step {contents['step']} could not be written to {path}: {why}") from error


def link_newest(out, path):
    """Makes out/ckpt.pt a symbolic link to the newest checkpoint, or a copy where the disk has no links."""
    with atomic(out / "ckpt.pt") as temporary:
        try:
            temporary.symlink_to(path.name)
        except OSError:
            shutil.copyfile(path, temporary)


def step_of(path):
    return int(path.stem.split("-")[1])


def checkpoint_files(out):
    """The checkpoints' paths by step, the oldest first."""
    return sorted((path for path in Path(out).glob("ckpt-*.pt") if NAME.fullmatch(path.name)), key=step_of)


def newest_checkpoint(out, at_most=None):
    """
    (the newest valid checkpoint in `out`, at step `at_most` or before; or None), [a sentence about each refused file].

    Refused files are renamed to NAME.damaged once a valid checkpoint is found, so that the next start does not meet them again.
    UserError where no checkpoint is valid, unless at_most is given: only the user may decide to begin anew.
    """
    files = checkpoint_files(out)
    if not files and not (out / "ckpt.pt").exists():
        return None, []
    refused, sentences = [], []
    try:
        manifest = read_manifest(out)
        if manifest is not None:
            manifest = repair_manifest(out, manifest)
    except UserError as error:
        manifest = None
        sentences.append(f"{error}; it is written anew, and the checkpoints are checked by their own checksums alone")
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
            sentences.append(str(error))
            continue
        for bad in refused:
            bad.replace(bad.with_name(bad.name + ".damaged"))
        if refused:
            names = ", ".join(bad.name + ".damaged" for bad in refused)
            sentences.append(f"set aside as {names}; {path}, step {found['step']}, is used")
            link_newest(out, path)
        if manifest is None or refused:
            rebuild_manifest(out, found.get("run", ""), manifest)
        return found, sentences
    if at_most is not None:
        return None, sentences
    raise UserError("; ".join(sentences) + "; there is no whole one before: delete them to begin anew")


def abandon_after(out, step):
    """Removes the checkpoints after `step`, which a rollback has made an abandoned branch."""
    manifest = read_manifest(out)
    gone = [row for row in manifest["checkpoints"] if row["step"] > step]
    if gone:
        manifest["checkpoints"] = [row for row in manifest["checkpoints"] if row["step"] <= step]
        manifest["abandoned"] += [row["sha256"] for row in gone]
        link_newest(out, out / f"ckpt-{step:08d}.pt")
        write_manifest(out, manifest)
        for row in gone:
            (out / row["file"]).unlink(missing_ok=True)


# ---- resuming ---------------------------------------------------------------------------------------------------------

# settings that change what a run shows and keeps, not its weights: by name, and by prefix
RESUME_IGNORES = ("data", "out", "plan", "card", "verify", "gpu_memory_gb", "sample_tokens", "resume_from")
RESUME_IGNORES_PREFIXES = ("eval_", "zero_shot_", "log_", "ckpt_", "keep_", "nas")
FIXED = ("seq_len", "tokens_per_step", "seed", "optimizer")  # with the sizes of the model: a run cannot change these


def changed_settings(saved, now, path):
    """
    "lr 0.01 -> 0.02, ...": settings that change the weights and differ between a checkpoint and `now`; "" where none do.

    UserError where a run with the settings `now` cannot go on from the checkpoint.
    """
    for name in ("tokenizer_sha256", "shards_sha256"):
        if saved[name] != now[name]:
            raise UserError(f"{path} was trained on other data ({name} differs): give another out=, or the data it began with")
    old, new = saved["settings"] | saved["model_config"], now["settings"] | now["model_config"]
    differ = [name for name in new if old.get(name) != new[name]]
    changed = [name for name in differ if name not in RESUME_IGNORES and not name.startswith(RESUME_IGNORES_PREFIXES)]
    for name in changed:
        if name in now["model_config"] or name in FIXED:
            raise UserError(f"{path} has {name}={old.get(name)}, now {name}={new[name]}: give another out=, or the old value")
    return ", ".join(f"{name} {old.get(name)} -> {new[name]}" for name in changed)


def load_newest(out, now, say):
    """The newest valid checkpoint from which a run with the header `now` can go on, or None; prints refusals and changes."""
    saved, sentences = newest_checkpoint(out)
    for sentence in sentences:
        say(sentence)
    if saved and (changes := changed_settings(saved, now, out / "ckpt.pt")):
        say(f"changed since the checkpoint: {changes}; the weights will not equal those of a straight run")
    return saved
