"""One run of the program: its settings, its formats, its questions, and its way to the servers."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO

from tqctl.flags import Flags
from tqctl.output import Output
from tqctl.text import plural, printable
from tqctl_runtime.core.errors import Declined, UsageError

if TYPE_CHECKING:
    from tqctl_runtime.config import Resolved
    from tqctl_runtime.core.settings import Settings
    from tqctl_runtime.inspector import Inspector

_SAMPLE = 3


class Session:
    """What a command needs beside its own arguments."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        self._stdin_owner: str | None = None

    @cached_property
    def resolved(self) -> Resolved:
        """Settings with their origins; on a terminal told when the environment beats the context that was asked for."""
        from tqctl_runtime.config import resolve

        resolved = resolve(self.flags.settings)
        if self.flags.settings.get("context"):
            for name in ("redis_url", "database_url", "namespace"):
                if resolved.origins[name].startswith("environment"):
                    self.note(f"warning: {resolved.origins[name]} goes before context {resolved.settings.context}")
        return resolved

    @property
    def settings(self) -> Settings:
        """The settings of this run."""
        return self.resolved.settings

    @cached_property
    def output(self) -> Output:
        """Where data goes."""
        return Output(self.format, self.flags.fields, color=self.flags.color)

    @property
    def format(self) -> str:
        """The output format; ``table`` unless told."""
        return self.flags.output or "table"

    @property
    def can_ask(self) -> bool:
        """Whether a person can be asked a question."""
        return not self.flags.no_input and sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()

    @property
    def shows_progress(self) -> bool:
        """Whether a moving line may be drawn on stderr."""
        return not self.flags.quiet and sys.stderr.isatty()

    def note(self, text: str) -> None:
        """A summary or remark on stderr; ``-q`` silences it."""
        if not self.flags.quiet:
            say(text)

    def confirm(self, question: str, sample: Sequence[str] = ()) -> None:
        """Ask before something bulk or irreversible. *question* ends without a question mark.

        Raises:
            Declined: the answer was no, or nobody can be asked.
        """
        if self.flags.yes:
            return
        context = self.settings.context
        if not self.can_ask:
            raise Declined(f"{question} in context {context} needs a confirmation", hint="add --yes to answer it")
        for line in sample[:_SAMPLE]:
            say(f"  {line}")
        if len(sample) > _SAMPLE:
            say(f"  … and {len(sample) - _SAMPLE:,} more")
        sys.stderr.write(f"{question} in context {context}? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise Declined("nothing was changed")

    def stdin(self, owner: str) -> BinaryIO:
        """The bytes of stdin for *owner*, which names the argument that reads them.

        Raises:
            UsageError: another argument reads stdin already, or it is a terminal.
        """
        if self._stdin_owner is not None:
            raise UsageError(f"{self._stdin_owner} and {owner} cannot both read stdin")
        self._stdin_owner = owner
        if sys.stdin is None:
            raise UsageError(f"{owner} reads stdin, which is closed")
        if sys.stdin.isatty():
            raise UsageError(f"{owner} reads stdin, which is a terminal", hint=f"… | {self.flags.command} …")
        return sys.stdin.buffer

    def ids(self, words: Iterable[str]) -> list[str]:
        """Ids as given, ``-`` replaced by those of stdin: one a line, or objects with ``id``.

        Raises:
            UsageError: none were given.
        """
        found: list[str] = []
        for word in words:
            found.extend(read_ids(self.stdin("the id -")) if word == "-" else [word])
        return list(dict.fromkeys(found))

    @contextmanager
    def inspector(self) -> Iterator[Inspector]:
        """The Inspector on this context's stores, closed at the end."""
        from tqctl_runtime.inspector import Inspector

        inspector = Inspector.open(self.settings)
        try:
            yield inspector
        finally:
            inspector.close()

    def remark(self, inspector: Inspector) -> None:
        """Say what the last list may lack."""
        if inspector.remark is not None:
            self.note(inspector.remark)

    def summary(self, done: int, word: str, verb: str, failed: int = 0) -> None:
        """The one line about a change, such as ``3 tasks cancelled, 1 refused``."""
        rest = f", {failed:,} refused" if failed else ""
        self.note(f"{plural(done, word)} {verb}{rest}")


def read_ids(stream: BinaryIO) -> list[str]:
    """Ids of *stream*: bare ones, first words of lines, or JSON objects with ``id`` or ``task_id``, one a line.

    Raises:
        UsageError: a line is neither.
    """
    from tqctl_runtime.core.errors import PayloadError
    from tqctl_runtime.core.serializer import load_json

    found = []
    for number, raw in enumerate(stream, start=1):
        line = raw.decode("utf-8", "replace").strip()
        if line.startswith("{"):
            try:
                item = load_json(line)
                line = str(item.get("id") or item.get("task_id") or "")
            except PayloadError:
                line = ""
            if not line:
                raise UsageError(f"line {number} of stdin is no JSON object with an id")
        if line:
            found.append(line.split()[0])
    return found


def say(text: str) -> None:
    """One safe line on stderr; a reader who left is no reason to fail."""
    try:
        sys.stderr.write(printable(text) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        # stderr closed or gone: there is nowhere left to complain.
        return


def open_session(ctx: Any) -> Session:
    """The session of the running command's context."""
    return Session(ctx.obj if isinstance(ctx.obj, Flags) else Flags())
