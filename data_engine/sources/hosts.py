"""
Hosts: the connections and the pace that all processes of a machine share, and addresses and keys that stay out of messages.

    with connection(downloads, host): ...     one of PER_HOST connections to a host
    wait_turn(downloads, host)                sleeps until the host's pace allows the next request
    slow_down(downloads, host, headers, 429)  records the Retry-After of an answer; every process keeps to it

The state lies in files below `downloads.folder`/.hosts. Their locks end with their process, even after kill -9.
"""

import fcntl
import json
import os
import random
import re
import time
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from phoenix.config import UserError, one_line

PER_HOST = 4  # connections
SHORT_RETRY_AFTER_SECS = 5.0  # up to this a Retry-After is the time between two requests, above it the end of a quota's window
MIN_INTERVAL_SECS, MAX_INTERVAL_SECS = 0.05, 60.0  # between two requests
MAX_RETRY_AFTER_SECS = 3600.0  # the Hub's quota windows have 300
PACE_SECS = 600.0  # how long a host's pace is kept after its last complaint

PLAN_PACES = {}  # {host: pace} of a plan, which writes nothing and is one process


# --- Connections and pace ----------------------------------------------------------------------------------------------------


@contextmanager
def connection(downloads, host):
    """Waits for one of the PER_HOST connections to a host and holds it in the block."""
    if not downloads.write:
        yield
        return
    with lock_slot(downloads, host):
        yield


def lock_slot(downloads, host):
    """An open file that holds the lock of one connection; closing it frees the connection."""
    while True:
        for number in range(PER_HOST):
            file = open(_state_file(downloads, f"{host}.{number}"), "wb")  # noqa: SIM115 (closed by the caller)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file
            except BlockingIOError:
                file.close()
        time.sleep(random.uniform(0.02, 0.1))


@contextmanager
def pace(downloads, host):
    """
    A host's {"next": time of the next request, "every": seconds between two, "until": when to forget both}, to change.

    "at" is the time of the last change: a clock that is behind it was set back, and all times move back with it.
    """
    if not downloads.write:
        yield _on_this_clock(PLAN_PACES.setdefault(host, {}))
        return
    with open(_state_file(downloads, f"{host}.pace"), "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        try:
            state = _on_this_clock(json.loads(file.read() or "{}"))
        except (ValueError, TypeError, AttributeError):  # cut short, or written by another program
            state = {}
        yield state
        file.seek(0)
        file.truncate()
        file.write(json.dumps(state))


def _on_this_clock(state):
    """A host's pace, its times moved back as far as the clock was set back."""
    now = time.time()
    back = max(0.0, state.get("at", now) - now)
    for name in state.keys() & {"next", "until", "at"}:
        state[name] -= back
    return state


def _state_file(downloads, name):
    folder = Path(downloads.folder) / ".hosts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / re.sub(r"[^A-Za-z0-9.-]", "_", name)


def wait_turn(downloads, host):
    """Sleeps until the host's pace allows another request."""
    now = time.time()
    with pace(downloads, host) as state:
        if not now <= state.get("until", 0) <= now + MAX_RETRY_AFTER_SECS + PACE_SECS:
            state.clear()
            return
        start = min(max(now, state["next"]), now + MAX_RETRY_AFTER_SECS)
        state["next"], state["at"] = start + state["every"], now
    time.sleep(max(0.0, start - now))


def slow_down(downloads, host, headers, status):
    """Seconds that an answer asks to wait, or None; sets the host's pace for all processes."""
    wait = retry_after(headers)
    if wait is None and status != 429:
        return None
    with pace(downloads, host) as state:
        now = time.time()
        every = max(MIN_INTERVAL_SECS, 2 * state.get("every", 0.0))
        if wait is not None and status == 429 and wait <= SHORT_RETRY_AFTER_SECS:
            every = max(MIN_INTERVAL_SECS, 1.05 * wait)
        elif wait is not None:
            every = min(every, max(MIN_INTERVAL_SECS, wait))
        quota = re.search(r"q\s*=\s*(\d+).*?w\s*=\s*(\d+)", headers.get("ratelimit-policy", ""))
        if quota and int(quota[1]):
            every = int(quota[2]) / int(quota[1])
        pause = min(wait or 0.0, MAX_RETRY_AFTER_SECS)
        state["every"], state["until"] = min(every, MAX_INTERVAL_SECS), now + pause + PACE_SECS
        state["next"], state["at"] = max(state.get("next", 0.0), now + pause), now
    return wait


def retry_after(headers):
    """Seconds of Retry-After (a number or a date) or of the Hub's ratelimit header; None without either."""
    quota = re.search(r"\br\s*=\s*0\s*;\s*t\s*=\s*(\d+)", headers.get("ratelimit", ""))
    value = headers.get("retry-after", quota[1] if quota else "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


# --- Addresses and keys ------------------------------------------------------------------------------------------------------


def host_of(url):
    """Host and port of an address, without its user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def is_address(url):
    """True for http:// and https:// addresses with a host and a possible port."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", url)
    except (AttributeError, TypeError, ValueError):  # "[::1" without its end, a port of six digits, no text at all
        return False


def check_server(source, variable):
    """UserError if the environment's variable is set, and not to a server's address."""
    url = os.environ.get(variable)
    if url and not is_address(url):
        raise UserError(f"source {source}: {variable} is no address such as https://example.org")


def check_key(source, variable, key):
    """UserError if a key cannot stand in a header: an HTTP library's own error would show the header, and the key with it."""
    if not re.fullmatch("[!-~]+", key):
        raise UserError(f"source {source}: {variable} holds characters that no key has, such as a space or the end of a line")


def redact_urls(text):
    """The text on one line, each address cut to its host: the rest may hold a signature or a password."""
    return re.sub(r"(\w+://)(?:[^/\s?'\"]*@)?([^/\s?'\"]+)[^\s'\"]*", r"\1\2/...", one_line(text))


def describe(error):
    """A library's error as one line for a message."""
    name = type(error).__name__
    if name == "LocalProtocolError" or not str(error):  # LocalProtocolError shows whole headers
        return name
    return f"{name}: {redact_urls(error)}"
