"""
Checkpoints that survive a kill at any moment: written to a temporary name, fsync, renamed, and the one before is kept.

    ckpt.pt        the newest         torch.save of a dict that torch.load(weights_only=True) reads:
    ckpt.prev.pt   the one before     format, version, model (state dict, fp32), model_config, settings, step, tokens, val_loss,
                                      val_bpb, optimizer, rng, tokenizer_sha256, shards_sha256, ...
"""

import os
import pickle
import zipfile
from pathlib import Path

import torch

from config import UserError

FORMAT, FORMAT_VERSION = "phoenix-checkpoint", 1


def load_checkpoint(path, map_location="cpu"):
    """
    The checkpoint that train.py wrote, a dict: format, version, model (state dict), model_config, settings, step, tokens, ...

    UserError where the file is missing, truncated, damaged (each part's CRC-32 is checked: torch.load alone takes a flipped bit
    for a weight) or not a checkpoint of Phoenix.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
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


def save_checkpoint(out, state):
    """`state` as out/ckpt.pt, what was there as out/ckpt.prev.pt. UserError where the disk does not take it; both stay whole."""
    temporary, newest = out / "ckpt.pt.tmp", out / "ckpt.pt"
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        if newest.exists():
            newest.replace(out / "ckpt.prev.pt")
        temporary.replace(newest)
        folder = os.open(out, os.O_RDONLY)  # a rename is safe from a power cut once its folder is written
        os.fsync(folder)
        os.close(folder)
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        temporary.unlink(missing_ok=True)
        raise UserError(f"checkpoint of step {state['step']} could not be written to {newest}: {error}") from error


def newest_checkpoint(out):
    """(the newest whole checkpoint in `out` or None, a sentence where a damaged one had to be set aside or None)."""
    newest, previous = out / "ckpt.pt", out / "ckpt.prev.pt"
    if not newest.is_file():  # the power may have gone between the two renames
        return (load_checkpoint(previous) if previous.is_file() else None), None
    try:
        return load_checkpoint(newest), None
    except UserError as error:
        if not previous.is_file():
            raise UserError(f"{error}; there is none before it: delete it to begin anew") from error
        found = load_checkpoint(previous)
        newest.replace(out / "ckpt.damaged.pt")  # else the next save would push it over the good one
        return found, f"{error}; it is now ckpt.damaged.pt, and the run goes on from {previous}, step {found['step']}"
