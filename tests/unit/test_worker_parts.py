"""Parts of the worker that need no process: frames, logs, paces, payload checks, environments."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.worker_calls import HeartbeatReply
from tqctl_runtime.core.errors import Busy, TqctlError
from tqctl_runtime.core.handler import HandlerSpec, describe
from tqctl_runtime.core.serializer import unpack
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.submission import Envelope, build_submission
from tqctl_runtime.worker import frames
from tqctl_runtime.worker.attempts import Plan, Rejected, describe_error, open_payload, take_answer
from tqctl_runtime.worker.ends import describe_exit
from tqctl_runtime.worker.heartbeat import Heartbeat
from tqctl_runtime.worker.hygiene import allow_files, clean_environment
from tqctl_runtime.worker.pace import AHEAD_TASKS, FRAME_TASKS, SHORT, Pace
from tqctl_runtime.worker.streams import HeadTail, clean_log, cut_line


def test_positions_in_an_envelope_row_are_those_that_the_submission_packs() -> None:
    made = build_submission(
        "echo",
        {"a": 1},
        timeout_ms=7,
        backoff=["fixed", 1.0, 1.0, 0.0, []],
        tags={"k": "v"},
        tenant="t",
        correlation_id="c",
        parent="tsk_01M80DZP280T06V89P3SE3KA4F",
    )
    row, read = unpack(made.envelope()), Envelope.from_bytes(made.envelope())
    names = [
        (frames.HANDLER, read.handler),
        (frames.PAYLOAD, read.payload),
        (frames.TIMEOUT, read.timeout_ms),
        (frames.BACKOFF, read.backoff),
        (frames.TAGS, read.tags),
        (frames.TENANT, read.tenant),
        (frames.CORRELATION, read.correlation_id),
        (frames.PARENT, read.parent),
    ]
    for position, value in names:
        assert row[position] == value


@given(st.binary(max_size=600), st.lists(st.integers(1, 90), max_size=20))
def test_a_log_keeps_head_and_tail_however_it_is_cut_into_chunks(data: bytes, sizes: list[int]) -> None:
    data = data.replace(b"\x00", b".")
    data = bytes(byte & 0x7F for byte in data).replace(b"\x00", b".")
    kept = HeadTail(100)
    rest = data
    for size in sizes:
        kept.feed(rest[:size])
        rest = rest[size:]
    kept.feed(rest)
    text, dropped = kept.take()
    if len(data) <= 100:
        assert (text, dropped) == (data, 0)
    else:
        assert dropped == len(data) - 100
        assert text == data[:50] + cut_line(dropped) + data[-50:]
    assert kept.take() == (b"", 0)


@given(st.binary(max_size=50))
def test_a_cleaned_log_is_text_for_every_store(data: bytes) -> None:
    assert "\x00" not in clean_log(data).decode("utf-8")


def _spec(function: Any) -> HandlerSpec:
    parameters, takes_any = describe(function)
    return HandlerSpec("f", function, parameters=parameters, takes_any=takes_any)


def _typed(count: int, name: str = "x", ratio: float = 1.0, flag: bool = False, extra: object = None) -> None:
    """Take one of each kind."""


def _open(**_: Any) -> None:
    """Take anything."""


@given(
    st.dictionaries(
        st.sampled_from(["count", "name", "ratio", "flag", "extra", "other"]),
        st.one_of(st.integers(), st.text(max_size=3), st.floats(allow_nan=False), st.booleans(), st.none()),
    )
)
def test_the_quick_check_of_a_payload_agrees_with_the_spec(payload: dict[str, Any]) -> None:
    for function in (_typed, _open):
        spec = _spec(function)
        answers = []
        for bind in (spec.bind, Plan(spec).bind):
            try:
                answers.append(repr(bind(dict(payload))))
            except TqctlError as error:
                answers.append(error.message)
        assert answers[0] == answers[1]


@pytest.mark.parametrize("payload", [b"[1]", b"nonsense", b"", b"null"])
def test_a_payload_that_is_no_object_is_rejected(payload: bytes) -> None:
    row = [1, "tsk", 1, "default", [1, "f", payload]]
    with pytest.raises(Rejected):
        open_payload(row, Plan(_spec(_open)))


def test_another_envelope_layout_is_rejected() -> None:
    with pytest.raises(Rejected, match="layout 9"):
        open_payload([1, "tsk", 1, "default", [9, "f", b"{}"]], Plan(_spec(_open)))


def test_an_exception_whose_text_breaks_is_still_told() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    told = describe_error(Broken())
    assert told.type.endswith("Broken")
    assert told.message == "<its text cannot be shown: ValueError>"


def test_errors_of_the_supervisor_keep_their_class() -> None:
    with pytest.raises(Busy, match="full"):
        take_answer((["busy", "full"], None))
    with pytest.raises(TqctlError, match="strange"):
        take_answer((["no such code", "strange"], None))
    assert take_answer((None, "tsk_1")) == "tsk_1"


def test_short_handlers_get_frames_and_slow_or_unknown_ones_do_not() -> None:
    pace = Pace()
    assert pace.frame_of("new") == 1
    pace.ended("quick", 100, 100 * 0.00002)
    pace.ended("slow", 5, 5 * 0.2)
    assert 1 < pace.frame_of("quick") <= FRAME_TASKS
    assert pace.frame_of("slow") == 1


def test_a_handler_that_got_stuck_counts_as_slow_until_it_proved_otherwise() -> None:
    pace = Pace()
    pace.ended("quick", 1000, 1000 * 0.00002)
    pace.stuck("quick", 0.05)
    assert pace.frame_of("quick") == 1
    pace.ended("quick", 500, 500 * 0.00002)
    seconds = pace.seconds("quick")
    assert seconds is not None
    assert seconds < SHORT


def test_prefetch_follows_the_measured_rate() -> None:
    pace = Pace()
    assert pace.ahead(1.0) == 0
    pace.ended("quick", 10_000, 0.1)
    assert pace.ahead(1.1) > 100
    pace.ended("quick", 10**9, 1.0)
    assert pace.ahead(1.2) == AHEAD_TASKS
    assert pace.ahead(10.0) == 0


def test_frames_survive_being_cut_anywhere() -> None:
    ours, theirs = socket.socketpair()
    message = (frames.STEP, 5, 4, 1, -1, b"x" * 70_000, "")
    data = frames.pack(message)
    unpacker = frames.new_unpacker()
    with ours, theirs:
        for start in range(0, len(data), 997):
            unpacker.feed(data[start : start + 997])
        assert [tuple(item) for item in unpacker] == [message]


def test_dooms_are_read_whole_and_in_order() -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    assert list(frames.read_dooms(read)) == []
    os.write(write, frames.pack_doom(7, frames.TIME_LIMIT) + frames.pack_doom(2**33 + 8, frames.CANCELLED))
    assert list(frames.read_dooms(read)) == [(7, frames.TIME_LIMIT), (8, frames.CANCELLED)]
    os.close(read)
    os.close(write)


def test_an_environment_loses_settings_and_passwords_only() -> None:
    given_ = {
        "TQCTL_REDIS_URL": "redis://h",
        "A": "postgresql://user:pw@host/db",
        "B": "x redis://:pw@host y",
        "C": "https://host/path:a@b",
        "D": "https://user@host",
        "PATH": "/bin:/usr/bin",
    }
    assert sorted(clean_environment(given_)) == ["C", "D", "PATH"]


@pytest.mark.parametrize(
    ("code", "text"),
    [(3, "exited with code 3"), (-9, "was killed by signal 9 (SIGKILL)"), (-99, "was killed by signal 99")],
)
def test_how_an_executor_ended_is_told(code: int, text: str) -> None:
    assert describe_exit(code) == text


def test_a_lease_that_aged_through_a_pause_is_told_with_its_whole_age(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    owner = MagicMock()
    beat = Heartbeat(Keys("test"), MagicMock(), Settings(lease=3_000), owner)
    beat.renewed(100.0)
    monkeypatch.setattr("tqctl_runtime.worker.heartbeat.boot_seconds", lambda: 114.0)
    beat.check()
    owner.on_distrust.assert_called_once_with()
    assert "could not be renewed for 14.0 s" in caplog.text


def test_a_worker_that_was_reaped_joins_once_however_often_it_would_have_beaten_meanwhile() -> None:
    """A second join leaves a registration behind that nobody renews, and what was claimed under it is taken away."""

    async def run() -> int:
        told = HeartbeatReply(now=1, is_known=False, lost=[], cancelled={})
        link, owner, opened = MagicMock(), MagicMock(), asyncio.Event()
        link.call = AsyncMock(return_value=told)
        owner.worker, owner.holdings.return_value, owner.figures.return_value = "wrk_old", ({}, 0), {}
        owner.on_unknown.side_effect = lambda: asyncio.ensure_future(opened.wait())
        beat = Heartbeat(Keys("test"), link, Settings(lease=3_000), owner)
        for _ in range(3):
            await beat._beat()
        joins = int(owner.on_unknown.call_count)
        opened.set()
        await asyncio.sleep(0)
        await beat._beat()
        return joins * 10 + int(owner.on_unknown.call_count)

    assert asyncio.run(run()) == 12


def test_the_soft_limit_of_open_files_is_raised_as_far_as_the_hard_one_goes() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    try:
        assert allow_files(400)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (400, hard)
        assert allow_files(350)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (400, hard)
        assert allow_files(hard + 1) is False
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
