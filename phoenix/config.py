"""
Settings of every script: the defaults of a frozen dataclass, then a Python file, then --a.b=value; the later wins.

    python train.py configs/125m.py --lr=3e-4 --compile=False

    @dataclass(frozen=True)
    class Train:
        lr: float = 6e-4            # peak learning rate
        out: str = "out/run"        # folder of the run

    cfg = load(Train, sys.argv[1:])

A settings file holds plain assignments. Modules, functions, classes and names that begin with "_" are ignored; every other
name must be a setting. Nested settings are dataclasses: in a file `dedup = dict(threshold=0.7)` or the dataclass itself, on the
command line `--dedup.threshold=0.7`. A bare `--plan` sets a bool to True. A user's mistake raises UserError with one sentence;
`main_guard` prints it and exits with code 2.
"""

import ast
import dataclasses
import difflib
import inspect
import itertools
import os
import re
import runpy
import signal
import sys
import types
import typing
from pathlib import Path


class UserError(Exception):
    """A user's mistake; its text is one sentence that says what would be right."""


def one_line(error, most=None):
    """The text of an error, or another text, on one line and cut to `most` characters."""
    return " ".join(str(error).split())[:most]


CONFIGS_OF = {  # by a setting that no other program has
    "sources": "the data engine: python -m data_engine.run",
    "n_layer": "the trainer: python train.py",
}


def load(cls, argv, positional="config"):
    """
    An instance of the dataclass `cls` from command line arguments; --help prints every setting and exits with code 0.

    positional: "config" where the one argument without dashes is a settings file, else the names of the settings that such
    arguments fill, in their order.
    """
    if "--help" in argv or "-h" in argv:
        print(help_text(cls, positional))
        sys.exit(0)
    for arg, value in itertools.pairwise(argv):  # --lr 3e-4; a bare --plan may stand before the config file
        if re.fullmatch(r"--[A-Za-z_][\w.]*", arg) and not value.startswith("--"):
            field = next((f for f in dataclasses.fields(cls) if f.name == arg[2:]), None)
            if value in ("True", "False", "true", "false") or not (field and takes_bool(typing.get_type_hints(cls)[field.name])):
                raise UserError(f"{arg} {value} is not understood: settings are given as --name=value, so {arg}={value}")
    plain, names = [a for a in argv if not a.startswith("-")], positional.split()
    if len(plain) > len(names):
        wanted = f"one {positional} file is" if len(names) == 1 else f"at most {len(names)} arguments ({positional}) are"
        raise UserError(f"{wanted} expected, {len(plain)} were given: {' '.join(plain)}")
    values = dict(zip(names, plain, strict=False))
    if plain and positional == "config":
        values = read_file(cls, plain[0])
    for arg in argv:
        if arg.startswith("-"):
            match = re.fullmatch(r"--([A-Za-z_][\w.]*)(?:=(.*))?", arg, re.DOTALL)
            if not match:
                raise UserError(f"{arg!r} is not understood: settings are given as --name=value")
            _set(cls, values, match[1].split("."), match[1], match[2])
    return build(cls, values)


def read_file(cls, path):
    """The assignments of a settings file as a dict; UserError where one is not a setting of `cls`."""
    if not Path(path).is_file():
        raise UserError(f"settings file {path} does not exist")
    try:
        found = runpy.run_path(str(path))
    except UserError:
        raise
    except Exception as error:  # a user's file may raise anything
        raise UserError(f"settings file {path} cannot be read: {type(error).__name__}: {error}") from error
    settings = {}
    for name, value in found.items():
        if name.startswith("_") or isinstance(value, types.ModuleType) or inspect.isroutine(value) or inspect.isclass(value):
            continue
        try:
            _known(cls, name, name)
        except UserError as error:
            program = next((text for setting, text in CONFIGS_OF.items() if setting in found), None)
            own = program is None or any(setting in CONFIGS_OF for setting in cls.__dataclass_fields__ if setting in found)
            reason = str(error) if own else f"it is a config of {program} {path}"
            raise UserError(f"settings file {path}: {reason}") from None
        settings[name] = value
    return settings


def build(cls, values, prefix=""):
    """`cls(**values)` with every value checked against its annotation; dicts become nested dataclasses."""
    hints = typing.get_type_hints(cls)
    checked = {}
    for name, value in values.items():
        _known(cls, name, prefix + name)
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            if isinstance(value, dict):
                value = build(hint, value, prefix + name + ".")
            elif not isinstance(value, hint):
                raise UserError(f"{prefix}{name} must be a dict or {hint.__name__}, not {type(value).__name__}")
            checked[name] = value
        else:
            checked[name] = _checked(hint, value, prefix + name)
    missing = [
        f.name
        for f in dataclasses.fields(cls)
        if f.name not in checked and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{prefix}{missing[0]} must be given")
    return cls(**checked)


def main_guard(main):
    """
    Runs main(argv) as a script and exits with its code.

    A UserError becomes one line on stderr and exit code 2, Ctrl-C one line and 130, a closed output (`| head`) one line and 141,
    which is the shell's code for a program that a closed pipe ended.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # an output in latin-1 has no dash: print a question mark, do not fail
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # in place of signals.exit_on_ctrl_c
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
        sys.exit(code)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's exit fails to flush it
        print("stopped: the output was closed", file=sys.stderr)
        sys.exit(141)


def help_text(cls, positional="config"):
    """The module's docstring and each setting of `cls` with its default and the comment behind it in the source."""
    doc = inspect.getdoc(sys.modules[cls.__module__]) or ""
    first, *others = positional.upper().split()
    argument = "[CONFIG.py]" if positional == "config" else " ".join([first, *(f"[{name}]" for name in others)])
    lines = [doc, "", f"arguments: {argument} [--setting=value ...]", ""]
    return "\n".join(lines + _rows(cls, ""))


def _rows(cls, prefix):
    comments = dict(re.findall(r"^ {4}(\w+):[^#\n]*#[ ]*(.*)$", inspect.getsource(cls), re.MULTILINE))
    hints = typing.get_type_hints(cls)
    rows = []
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[field.name]):
            rows += _rows(hints[field.name], prefix + field.name + ".")
            continue
        default = field.default if field.default is not dataclasses.MISSING else None
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        rows.append(f"  --{prefix + field.name}={default!r}".ljust(44) + "  " + comments.get(field.name, ""))
    return rows


def _known(cls, name, shown):
    names = [f.name for f in dataclasses.fields(cls)]
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        raise UserError(f"unknown setting {shown!r}" + (f"; did you mean {near[0]!r}?" if near else "; --help lists them"))


def _set(cls, values, path, shown, text):
    """Puts the parsed text at a dotted path of the nested dict `values`."""
    name, rest = path[0], path[1:]
    _known(cls, name, shown)
    hint = typing.get_type_hints(cls)[name]
    if rest:
        if not dataclasses.is_dataclass(hint):
            raise UserError(f"unknown setting {shown!r}; {name} has no parts")
        inner = values.get(name, {})
        if dataclasses.is_dataclass(inner):
            inner = {f.name: getattr(inner, f.name) for f in dataclasses.fields(inner)}
        values[name] = dict(inner)
        _set(hint, values[name], rest, shown, text)
    elif dataclasses.is_dataclass(hint):
        raise UserError(f"--{shown} has parts: give --{shown}.NAME=value")
    elif text is None:
        if not takes_bool(hint):
            raise UserError(f"--{shown} needs a value: --{shown}=...")
        values[name] = True
    else:
        values[name] = _parsed(hint, text, shown)


def takes_bool(hint):
    return bool in (hint, *typing.get_args(hint))


def _parsed(hint, text, shown):
    """Text of the command line -> a value of the annotated type."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if type(None) in options and text in ("None", "none", ""):
        return None
    if str in options:
        return _checked(hint, text, shown)
    kinds = [typing.get_origin(o) or o for o in options]
    if tuple in kinds and text and text[0] not in "([":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError):
        value = text
    return _checked(hint, value, shown)


def _checked(hint, value, shown):
    """The value where it fits the annotation, an int as float and a list as tuple where it asks for those; else UserError."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for option in options:
        kind = typing.get_origin(option) or option
        if kind is typing.Any or (option is type(None) and value is None):
            return value
        if kind is float and type(value) is int:
            return float(value)
        if kind is int and type(value) is float and value.is_integer():
            return int(value)  # 1e9 reads better than 1000000000
        if kind is tuple and isinstance(value, (list, tuple)):
            inner = typing.get_args(option)
            return tuple(_checked(inner[0], v, shown) for v in value) if inner else tuple(value)
        if isinstance(kind, type) and isinstance(value, kind) and not (type(value) is bool and kind is not bool):
            return os.path.expanduser(value) if kind is str and value.startswith("~/") else value
    wanted = " or ".join("None" if o is type(None) else getattr(o, "__name__", str(o)) for o in options)
    raise UserError(f"{shown} must be {wanted}, not {value!r}")
