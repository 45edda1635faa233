"""The framework of the command line: a table of commands, their flags, their help, their failures.

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated. Every failure is one
line.
"""

from __future__ import annotations

import contextlib
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from absl import flags

import descnet3d
from descnet3d.commands import interrupts

DONE, FAILED, WRONG_USAGE = 0, 1, 2
# What a terminal has, where nobody made it wider.
WIDTH = 80
_HELP = ("--help", "-help", "-h", "--helpfull")


class UsageError(Exception):
    """The command was called wrongly; the message says what is missing or misplaced."""


class Command(NamedTuple):
    """One command of a program.

    Attributes:
        name: what is typed.
        arguments: the names of the arguments that it takes before its flags, for the help; those
            in brackets may be left out.
        summary: one line, without a full stop.
        description: what it does, in whole sentences.
        example: a call that works.
        define_flags: adds the command's flags to a table of its own.
        run: does the work, given the arguments and the flags.
        common: the flags that the help shows, where there are more than one screen takes; the
            others, and they, are behind `--helpfull`. Empty: all are shown.
    """

    name: str
    arguments: tuple[str, ...]
    summary: str
    description: str
    example: str
    define_flags: Callable[[flags.FlagValues], None]
    run: Callable[[Sequence[str], flags.FlagValues], None]
    common: tuple[str, ...] = ()


def run(commands: Sequence[Command], words: Sequence[str]) -> int:
    """Runs the command that the words begin with.

    Args:
        commands: all that there are.
        words: what follows `descnet3d` on the command line.

    Returns:
        The exit status.
    """
    if not words:
        print(_overview(commands), file=sys.stderr)
        return WRONG_USAGE
    first, *rest = words
    if first in (*_HELP, "help"):
        print(_overview(commands))
        return DONE
    if first == "--version":
        print(f"descnet3d {descnet3d.__version__}")
        return DONE
    command = {command.name: command for command in commands}.get(first)
    if command is None:
        known = ", ".join(command.name for command in commands)
        return _complain("", f"there is no command {first!r}; there is: {known}", WRONG_USAGE)
    return _run(command, rest)


def _run(command: Command, words: Sequence[str]) -> int:
    values = flags.FlagValues()
    command.define_flags(values)
    flags.DEFINE_boolean("debug", False, "Show where a failure came from.", flag_values=values)
    if any(word in _HELP for word in words):
        print(_help(command, values, full="--helpfull" in words))
        return DONE
    try:
        arguments = _parse(command, values, words)
        with _plain_warnings():
            command.run(arguments, values)
    except (UsageError, flags.Error) as error:
        # absl begins some of its messages with "ERROR:: ".
        reason = _one_line(error).removeprefix("ERROR:: ").rstrip(".")
        advice = f"see descnet3d {command.name} --help"
        return _complain(command.name, f"{reason}; {advice}", WRONG_USAGE)
    except BrokenPipeError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or interrupts.came():
            return interrupts.tell(command.name, error)
        if not _is_expected(error) or (values.is_parsed() and values.debug):
            raise
        return _complain(command.name, _one_line(error), FAILED)
    return DONE


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """What the package itself warns of is a line, as failures are."""
    before = warnings.showwarning

    def show(message: Any, category: type[Warning], *rest: Any, **named: Any) -> None:
        if category.__module__.partition(".")[0] == descnet3d.__name__:
            _complain("", f"warning: {_one_line(message)}", DONE)
        else:
            before(message, category, *rest, **named)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _parse(command: Command, values: flags.FlagValues, words: Sequence[str]) -> list[str]:
    values.set_gnu_getopt(True)  # flags may follow arguments
    arguments = values([command.name, *words])[1:]
    missing = [name for name in command.arguments[len(arguments) :] if name[0] != "["]
    if missing:
        raise UsageError(f"{' and '.join(missing)} missing, as in: {command.example}")
    surplus = arguments[len(command.arguments) :]
    if surplus:
        raise UsageError(f"{' '.join(surplus)!r} is one argument too many")
    return arguments


def _is_expected(error: BaseException) -> bool:
    # DivergenceError is told by its name: its module loads Keras, which may be what failed.
    expected = isinstance(error, ValueError | OSError | ImportError)
    return expected or type(error).__name__ == "DivergenceError"


def _one_line(error: BaseException) -> str:
    return plain(" ".join(str(error).split())) or type(error).__name__


def plain(text: str) -> str:
    """A stranger's text without what would make a terminal do things: that is escaped."""
    shown = (each if each.isprintable() or each in "\n\t" else repr(each)[1:-1] for each in text)
    return "".join(shown)


def _complain(command: str, reason: str, status: int) -> int:
    sys.stdout.flush()
    print(f"{f'descnet3d {command}'.strip()}: {reason}", file=sys.stderr)
    return status


def _overview(commands: Sequence[Command]) -> str:
    width = max(len(command.name) for command in commands)
    lines = [f"  {command.name:{width}}  {command.summary}" for command in commands]
    return "\n".join(
        [
            "usage: descnet3d COMMAND [ARGUMENTS] [--flags]",
            "",
            "Energy-based models of 3D shapes. The commands:",
            "",
            *lines,
            "",
            "descnet3d COMMAND --help says more; descnet3d --version says which version this is.",
        ]
    )


def _help(command: Command, values: flags.FlagValues, full: bool) -> str:
    usage = " ".join(["usage: descnet3d", command.name, *command.arguments, "[--flags]"])
    lines = [usage, "", *textwrap.wrap(command.description, WIDTH), "", "Example:", ""]
    lines += [f"  {command.example}", ""]
    defined = [flag for group in values.flags_by_module_dict().values() for flag in group]
    common = [values[name] for name in command.common]
    others = [flag for flag in defined if flag not in common]
    if not common:
        lines += ["Flags:", "", *_flags_help(others), *_FLAGFILE]
    elif full:
        lines += ["Common flags:", "", *_flags_help(common), "", "All others:", ""]
        lines += [*_flags_help(others), *_FLAGFILE]
    else:
        more = f"{len(others) + 1} more flags: descnet3d {command.name} --helpfull"
        lines += ["Common flags:", "", *_flags_help(common), "", more]
    return "\n".join(lines)


_FLAGFILE = ["  --flagfile=FILE", "      Read flags from a file, one a line."]


def _flags_help(shown: Sequence[flags.Flag]) -> list[str]:
    return [line for flag in shown for line in _flag_help(flag)]


def _flag_help(flag: flags.Flag) -> list[str]:
    if flag.boolean:
        name = f"  --[no]{flag.name}"
    else:
        name = f"  --{flag.name}={flag.flag_type().upper().replace(' ', '_')}"
    notes = [flag.parser.syntactic_help] if flag.parser.syntactic_help and not flag.boolean else []
    if flag.default is not None and not flag.boolean:
        notes.append(f"default: {flag.default}")
    text = f"{flag.help} ({'; '.join(notes)})" if notes else flag.help
    indent = " " * 6
    return [name, *textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)]
