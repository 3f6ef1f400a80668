"""What every operation has in common: its header, its keys, its gate."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.scripts.rig import Rig
from tqctl_runtime.broker import scripts
from tqctl_runtime.broker.call import Call
from tqctl_runtime.broker.keys import SPECS, write_keys
from tqctl_runtime.core.errors import BrokerUnavailable, StoresDiffer

FOLDER = Path(scripts.__file__).parent / "lua"
OPERATIONS = scripts.operation_names()
#: Operations that a full server may refuse: they add work or data that can wait.
REFUSED_WHEN_FULL = {"submit", "retry", "discard"}
ONLY_READ = {"look", "overview", "survey"}
#: Operations of opening and repair, which look at a namespace that is not open.
BEFORE_THE_GATE = {"open", "survey", "close", "wipe", "rebuild", "restore"}


def header(name: str) -> list[str]:
    lines = (FOLDER / f"{name}.lua").read_text().splitlines()
    end = next(at for at, line in enumerate(lines[1:], 1) if not line.startswith("-- "))
    return [line.removeprefix("-- ") for line in lines[1:end]]


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_header_tells_purpose_keys_arguments_reply_and_invariants(name: str) -> None:
    lines = header(name)
    starts = [line.split()[0] for line in lines if line.split()[0] in {"KEYS", "ARGV", "Returns", "Invariants:"}]
    assert lines[0].endswith((".", ":")) or lines[1][0].islower()
    assert starts == ["KEYS", "ARGV", "Returns", "Invariants:"]
    assert "KEYS meta" in lines
    assert re.fullmatch(r"Invariants: (none, .+|INV-\d+( INV-\d+)*)", lines[-1])
    assert next(line for line in lines if line.startswith("ARGV")).startswith("ARGV now")


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_stays_small(name: str) -> None:
    assert len((FOLDER / f"{name}.lua").read_text().splitlines()) <= 80


@pytest.mark.parametrize("path", sorted((FOLDER / "include").glob("*.lua")), ids=lambda path: path.stem)
def test_an_include_says_what_it_is_for(path: Path) -> None:
    assert path.read_text().startswith("-- ")
    assert f"--- include {path.stem}\n" in "".join(each.read_text() for each in FOLDER.rglob("*.lua"))


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.lua")), ids=lambda path: path.stem)
def test_every_key_comes_from_a_builder(path: Path) -> None:
    source = path.read_text()
    for command, key in re.findall(r"redis\.call\('(\w+)', ([^,)]+)", source):
        if command not in {"TIME", "PUBLISH"}:
            assert key.startswith(("k_", "key", "ready_key(line", "unpack(tombs")), f"{command} {key}"
    channels = re.findall(r"PREFIX \.\. '([^']+)'", source)
    assert set(channels) <= {"done:", "ctl:", "wm"}


def test_every_builder_is_used_and_bounded() -> None:
    used = set(re.findall(r"\bk_([a-z]+)\b", "".join(path.read_text() for path in FOLDER.rglob("*.lua"))))
    assert used == {spec.name for spec in SPECS}
    assert all(spec.bound and spec.owner for spec in SPECS)


def test_a_builder_whose_argument_holds_a_call_is_refused() -> None:
    with pytest.raises(ValueError, match="k_ready"):
        write_keys("local size = redis.call('ZCARD', k_ready(string.lower(queue)))")


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_assembled_operation_holds_no_name_that_was_replaced(name: str) -> None:
    source = re.sub(r"'[^'\n]*'", "", scripts.load(name).source)
    names = set(re.findall(r"\b[A-Z][A-Z_]*\b", source))
    assert names <= {"KEYS", "ARGV", "PREFIX"}
    called = set(re.findall(r"\bk_[a-z]+\b", source))
    assert called == set(re.findall(r"^local (k_[a-z]+) =", source, flags=re.MULTILINE))


def test_two_kinds_of_keys_never_meet() -> None:
    """A fixed name holds no colon and each pattern has its own head, so no queue or task name can reach another key."""
    fixed = [spec.pattern for spec in SPECS if "{}" not in spec.pattern]
    heads = [spec.pattern.removesuffix("{}") for spec in SPECS if "{}" in spec.pattern]
    assert not any(":" in name for name in fixed)
    assert all(head.endswith(":") and head.count(":") == 1 for head in heads)
    assert len({*fixed, *heads}) == len(SPECS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_only_what_can_wait_is_refused_by_a_full_server(name: str) -> None:
    flags = scripts.load(name).source.partition("\n")[0].removeprefix("#!lua").strip()
    wanted = "" if name in REFUSED_WHEN_FULL else "flags=no-writes" if name in ONLY_READ else "flags=allow-oom"
    assert flags == wanted


@pytest.mark.parametrize("name", OPERATIONS)
def test_payloads_are_never_decoded(name: str) -> None:
    assert "cjson.decode" not in scripts.load(name).source


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in BEFORE_THE_GATE])
def test_a_namespace_that_is_not_open_is_refused(name: str, rig: Rig) -> None:
    rig.raw("DEL", rig.keys.meta)
    with pytest.raises(BrokerUnavailable, match="not open"):
        rig.do(Call(name, (0,), lambda reply: reply, scripts.load(name), rig.keys.meta))
    assert rig.names() == []


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in BEFORE_THE_GATE])
@pytest.mark.parametrize("layout", ["2", None])
def test_an_unknown_line_layout_is_refused(name: str, layout: str | None, rig: Rig) -> None:
    rig.raw("HDEL", rig.keys.meta, "layout")
    if layout is not None:
        rig.raw("HSET", rig.keys.meta, "layout", layout)
    before = rig.view()
    with pytest.raises(StoresDiffer, match="line layout"):
        rig.do(Call(name, (0,), lambda reply: reply, scripts.load(name), rig.keys.meta))
    assert rig.view() == before


def test_an_include_is_pulled_in_once_and_in_order() -> None:
    source = scripts.load("round").source
    assert source.count("local function decode_line(") == 1
    assert source.index("local function finalise(") < source.index("local function requeue(")
