"""Journal entries that cannot be recorded, on SQLite and on PostgreSQL: each goes into quarantine, alone and whole."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.contract.journal import Entry, Journal
from tqctl_runtime.core.ids import new_id
from tqctl_runtime.core.serializer import pack
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.record import Store, open_store
from tqctl_runtime.record.batch import count_rows, final_tasks, merge
from tqctl_runtime.record.write import Applied, Writer


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with open_store(Settings(database_url=store_url)) as opened:
        opened.pair("par_test", 1)
        yield opened


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def writer(store: Store) -> Writer:
    return store.writer(store.next_term("coordinator", "test"))


def apply(writer: Writer, *entries: Entry) -> Applied:
    return writer.apply(entries, writer.take())


@pytest.mark.parametrize(
    "bad",
    [
        b"\xc1",
        pack([b"S", 1]),
        pack([b"?", 1]),
        pack([b"S", 1, "tsk_x", 1, 2, "q", 5, 1, 0, 0, "", "", b"\x00"]),
        pack([b"S", 1, "tsk_x", 1, 2, "q", 5, 1, 0, 0, "", "", pack([9, "echo", b"{}", 0, *[None] * 6])]),
        pack([b"R", 1, "tsk_x", 2, 1, "w", 1])[:-2],
        pack([b"S", 1.5, "tsk_x", 1, 2, "q", 5, 1, 0, 0, "", "", pack([1, "echo", b"{}", 0, *[None] * 6])]),
        pack([b"S", 1, "tsk_x", 1, 2, "q", "5,6", 1, 0, 0, "", "", pack([1, "echo", b"{}", 0, *[None] * 6])]),
        pack([b"S", 2**63, "tsk_x", 1, 2, "q", 5, 1, 0, 0, "", "", pack([1, "echo", b"{}", 0, *[None] * 6])]),
        b"\x81\x91\x01\x02",
    ],
    ids=["bytes", "short", "kind", "envelope", "layout", "cut off", "fraction", "text", "number", "list as key"],
)
def test_a_bad_entry_goes_into_quarantine_whole_and_the_drain_goes_on(
    store: Store, writer: Writer, journal: Journal, bad: bytes
) -> None:
    good, beside = [new_id("tsk") for _ in range(6)], new_id("tsk")
    entries = [journal.entry(journal.submit(i)) for i in good[:3]]
    entries.append(journal.raw(pack(journal.submit(beside)) + bad))
    entries += [journal.entry(journal.submit(i)) for i in good[3:]]

    done = apply(writer, *entries)

    rows = store.database.rows("SELECT stream_id, sequence, entry, error FROM quarantine")
    assert [(row[0], row[1], bytes(row[2])) for row in rows] == [(entries[3].stream_id, 4, entries[3].rows)]
    assert rows[0][3]
    assert [entry.sequence for entry in done.quarantined] == [4]
    assert set(store.lookup.states(good)) == set(good)
    assert store.lookup.task(beside) is None
    assert (done.checkpoint.sequence, done.checkpoint.stream_id) == (7, entries[-1].stream_id)
    assert done.checkpoint.bytes == sum(len(entry.rows) for entry in entries)


def test_an_entry_that_nobody_of_ours_wrote_goes_into_quarantine(
    store: Store, writer: Writer, journal: Journal
) -> None:
    first = journal.entry(journal.submit(new_id("tsk")))
    foreign = Entry(f"{journal.now}-1", 0, 0, b"")
    second = journal.entry(journal.submit(new_id("tsk")))

    done = apply(writer, first, foreign, second)

    assert [entry.stream_id for entry in done.quarantined] == [foreign.stream_id]
    assert done.checkpoint.sequence == 2
    assert store.queries.count_tasks() == 2
    assert store.lookup.quarantined() == 1


def test_what_the_database_has_no_room_for_goes_into_quarantine(store: Store, writer: Writer, journal: Journal) -> None:
    # More than an index of PostgreSQL takes, also compressed.
    row = journal.submit(new_id("tsk"))
    row[5] = secrets.token_hex(6_000)
    entries = [
        journal.entry(journal.submit(new_id("tsk"))),
        journal.entry(row),
        journal.entry([b"K", 1, "a", "b", "c"]),
    ]

    done = apply(writer, *entries)

    assert [entry.sequence for entry in done.quarantined] == ([] if store.kind == "sqlite" else [2])
    assert done.checkpoint.sequence == 3


def test_an_entry_larger_than_what_msgpack_buffers_by_itself_is_read(journal: Journal) -> None:
    task_id = new_id("tsk")
    entry = journal.entry(journal.finish(task_id, result=b"x" * (101 * 2**20)))

    assert set(merge([entry]).succeeded) == {task_id}
    assert count_rows(entry) == 1
    assert set(final_tasks([entry])) == {task_id}


def test_a_missing_schema_is_no_reason_for_quarantine(empty_store_url: str, journal: Journal) -> None:
    with open_store(Settings(database_url=empty_store_url)) as store:
        store.upgrade()
        store.pair("par_test", 1)
        writer = store.writer(store.next_term("coordinator", "test"))
        checkpoint = writer.take()
        store.database.execute("ALTER TABLE attempts RENAME TO elsewhere")
        task_id = new_id("tsk")

        with pytest.raises(Exception, match="attempts") as caught:
            writer.apply([journal.entry(journal.submit(task_id), journal.finish(task_id))], checkpoint)

        store.database.execute("ALTER TABLE elsewhere RENAME TO attempts")
        assert type(caught.value).__name__ in ("RecordUnavailable", "ConfigError")
        assert store.checkpoint() == checkpoint
        assert store.lookup.quarantined() == 0
