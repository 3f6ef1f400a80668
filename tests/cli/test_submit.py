"""Submitting: the grammar of parameters, mistakes with their hints, batches; against a broker without a worker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Broker, Program, row
from tests.support.servers import RedisServer, drop_namespace
from tqctl_runtime.broker import worker_calls
from tqctl_runtime.core.ids import is_task_id
from tqctl_runtime.core.submission import Envelope


def payload_of(broker: Broker, task_id: str) -> object:
    return json.loads(Envelope.from_bytes(broker.task(task_id).envelope).payload)


def submitted(program: Program, broker: Broker, *words: str, stdin: str = "") -> object:
    return payload_of(broker, program.done("submit", *words, stdin=stdin).out.strip())


def test_submit_prints_the_whole_id_and_nothing_else(program: Program, broker: Broker) -> None:
    said = program.done("submit", "echo", "-p", "message=hi")
    assert is_task_id(said.out.strip())
    assert said.out.count("\n") == 1
    assert broker.task(said.out.strip()).state == "queued"


def test_parameters_take_the_types_of_the_catalogue(program: Program, broker: Broker, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("from a file\n")
    words = ("-p", f"message=@{text}", "-p", "times=3", "-p", "loud=yes", "-p", 'more={"a": [1]}')
    assert submitted(program, broker, "echo", *words) == {
        "message": "from a file\n",
        "times": 3,
        "loud": True,
        "more": {"a": [1]},
    }


def test_json_is_json_whatever_the_type(program: Program, broker: Broker) -> None:
    assert submitted(program, broker, "echo", "-p", 'message:="a=b"', "-p", "more:=null") == {
        "message": "a=b",
        "more": None,
    }


def test_a_word_for_a_parameter_of_any_type_is_text(program: Program, broker: Broker) -> None:
    assert submitted(program, broker, "echo", "-p", "message=1", "-p", "more=word") == {"message": "1", "more": "word"}


def test_p_overrides_keys_of_the_payload(program: Program, broker: Broker) -> None:
    words = ("--payload", '{"message": "a", "times": 2}', "-p", "message=b")
    assert submitted(program, broker, "echo", *words) == {"message": "b", "times": 2}


def test_the_payload_may_come_from_stdin_or_a_file(program: Program, broker: Broker, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"message": "f"}')
    assert submitted(program, broker, "echo", "--payload", "-", stdin='{"message": "s"}') == {"message": "s"}
    assert submitted(program, broker, "echo", "--payload", f"@{path}") == {"message": "f"}


def test_what_follows_two_dashes_is_the_command_of_a_handler_that_runs_one(program: Program, broker: Broker) -> None:
    assert submitted(program, broker, "shell", "--max-retries", "0", "--", "rsync", "-n", "--", "a") == {
        "argv": ["rsync", "-n", "--", "a"]
    }


def test_options_reach_the_broker(program: Program, broker: Broker) -> None:
    words = ("--queue", "images", "--priority", "high", "--max-retries", "2", "--timeout", "1m30s", "--tag", "a=b")
    task = broker.task(program.done("submit", "echo", "-p", "message=x", *words, "--tenant", "t").out.strip())
    envelope = Envelope.from_bytes(task.envelope)
    assert (task.queue, task.priority, task.max_retries) == ("images", 7, 2)
    assert (envelope.timeout_ms, envelope.tags, envelope.tenant) == (90_000, {"a": "b"}, "t")


def test_a_delay_schedules_and_at_says_how_it_was_understood(program: Program, broker: Broker) -> None:
    said = program.done("submit", "echo", "-p", "message=x", "--at", "2099-12-24T18:00+01:00")
    assert "at 2099-12-24T18:00+01:00 is 2099-12-24T17:00:00.000Z" in said.err
    assert broker.task(said.out.strip()).state == "scheduled"
    assert broker.task(program.done("submit", "echo", "-p", "message=x", "--delay", "10m").out.strip()).due_at > 0


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["nosuch"], "no handler is called 'nosuch'", "known: compute, echo"),
        (["ecko", "-p", "message=x"], "no handler is called 'ecko'", "did you mean echo?"),
        (["echo"], "echo needs message", "tqctl submit echo -p message=text"),
        (["echo", "-p", "mesage=x"], "echo has no parameter 'mesage'", "did you mean message?"),
        (["echo", "-p", "message"], "-p message: not KEY=VALUE", "-p KEY=VALUE"),
        (["echo", "-p", "message=a", "-p", "message=b"], "-p message is given twice", ""),
        (["echo", "-p", "message=a", "-p", "times=two"], "'two' is not a whole number", ""),
        (["echo", "-p", "message=a", "-p", "loud=maybe"], "'maybe' is neither true nor false", ""),
        (["echo", "-p", "message:=hi"], "value of message is not JSON", "-p message=hi"),
        (["echo", "-p", "message=@/no/file"], "cannot be read", "-p 'message:=\"@/no/file\"'"),
        (["echo", "-p", "message=@-"], "-p message=@- names no file", "-p message=@/dev/stdin reads stdin"),
        (["echo", "--payload", "@-"], "--payload @- names no file", "--payload - reads stdin"),
        (
            ["echo", "message=hi"],
            "message=hi stands outside of -p",
            "-p message=hi, so: tqctl submit echo -p message=hi",
        ),
        (["echo", "hi"], "'hi' is a second", "tqctl submit echo -p message=hi"),
        (["shell", "rsync", "-n", "a", "b"], "'rsync' is a second", "tqctl submit shell -- rsync -n a b"),
        (["shell", "ls", "--no-such"], "'ls' is a second", "tqctl submit shell -- ls --no-such"),
        (["echo", "--", "ls"], "runs no command", "tqctl submit echo -p message=text"),
        (["shell", "--"], "no command follows --", "tqctl submit shell -- COMMAND"),
        (["echo", "--payload", "[1]"], "an array, not an object", ""),
        (["echo", "--payload", "{"], "not JSON", ""),
        (["echo", "-p", "message=x", "--delay", "soon"], "--delay: 'soon' is not a duration", "30s"),
        (["echo", "-p", "message=x", "--delay", "1m", "--at", "18:00"], "not both", ""),
        (["echo", "-p", "message=x", "--priority", "11"], "is not 1 to 10", "critical"),
        (["echo", "-p", "message=x", "--tag", "a"], "--tag a: not KEY=VALUE", ""),
        (["echo", "-p", "message=x", "--durability", "sure"], "neither accepted nor recorded", ""),
        (["echo", "-p", "message=x", "--wait-timeout", "1s"], "needs --wait", "time limit"),
        (["--resume", "bat_x"], "--resume needs --batch", "--batch FILE"),
        ([], "no handler is named", "tqctl submit HANDLER"),
        (["echo", "--payload", "-", "--batch", "-"], "cannot both read stdin", ""),
    ],
)
def test_a_mistake_is_exit_2_with_what_to_type_instead(
    program: Program, broker: Broker, words: list[str], message: str, hint: str
) -> None:
    said = program.run("submit", *words)
    assert said.code == 2, said
    assert said.out == ""
    error, _, rest = said.err.partition("hint: ")
    assert message in error
    assert hint in rest


def test_a_submission_has_these_fields_in_json(program: Program, broker: Broker) -> None:
    said = program.done("submit", "echo", "-p", "message=x", "-o", "json")
    assert set(said.json) == {
        *("id", "handler", "queue", "priority", "state", "is_duplicate", "payload", "max_retries", "timeout_s"),
        *("delay_s", "scheduled_at", "expires_s", "tags", "tenant", "correlation_id", "idempotency_key"),
    }
    batch = program.done("submit", "--batch", "-", "-o", "json", stdin=one_line())
    assert set(batch.json) == {"batch", "lines", "submitted", "repeated", "refused"}


def one_line() -> str:
    return lines({"handler": "echo", "payload": {"message": "x"}})


def test_unchecked_submits_a_handler_nobody_has(program: Program, broker: Broker) -> None:
    said = program.done("submit", "later", "-p", "a=1", "--unchecked")
    assert payload_of(broker, said.out.strip()) == {"a": "1"}


def test_a_payload_that_does_not_fit_is_refused(program: Program, broker: Broker) -> None:
    program.set(TQCTL_PAYLOAD_LIMIT="100")
    said = program.run("submit", "echo", "-p", "message=" + "x" * 200)
    assert said.code == 2
    assert "the limit is 100" in said.err


def test_a_payload_that_is_cut_off_at_the_limit_is_more_than_it(
    program: Program, broker: Broker, tmp_path: Path
) -> None:
    program.set(TQCTL_PAYLOAD_LIMIT="1000")
    path = tmp_path / "payload.json"
    path.write_text(json.dumps({"message": "x" * 5_000}))
    said = program.run("submit", "echo", "--payload", f"@{path}")
    assert said.code == 2
    assert f"--payload: {path} has more than 1,000 bytes" in said.err
    assert "stdin has more than 1,000" in program.run("submit", "echo", "--payload", "-", stdin=path.read_text()).err


@pytest.mark.parametrize(
    "option",
    [
        *("--queue", "--tenant", "--correlation-id", "--idempotency-key", "--priority", "--delay", "--timeout"),
        *("--tag", "--param", "--payload", "--batch", "--at", "--durability"),
    ],
)
def test_an_empty_value_is_a_mistake_and_never_the_default(program: Program, broker: Broker, option: str) -> None:
    said = program.run("submit", "echo", "-p", "message=x", option, "")
    assert said.code == 2
    assert f"{option} is empty" in said.err


@pytest.mark.parametrize("field", ["queue", "tenant", "correlation_id", "idempotency_key", "delay", "handler"])
def test_an_empty_field_of_a_line_is_a_mistake_too(program: Program, broker: Broker, field: str) -> None:
    line = {"handler": "echo", "payload": {"message": "x"}, field: ""}
    said = program.run("submit", "--batch", "-", "-o", "json", stdin=lines(line))
    assert said.code == 7
    assert (said.json["submitted"], len(said.json["refused"])) == (0, 1)


def test_no_empty_filter_chooses_tasks(program: Program) -> None:
    for words in (["task", "list"], ["task", "cancel"], ["dlq", "list"], ["dlq", "discard"]):
        said = program.run(*words, "--queue", "")
        assert said.code == 2
        assert "--queue is empty" in said.err


def test_a_time_limit_of_0_is_none_also_where_the_handler_has_one(program: Program, broker: Broker) -> None:
    broker.register(row("slow", timeout_s=30), worker="wrk_two")
    limited, free = (
        Envelope.from_bytes(broker.task(program.done("submit", "slow", *words).out.strip()).envelope).timeout_ms
        for words in ([], ["--timeout", "0"])
    )
    assert (limited, free) == (30_000, 0)


def test_without_a_live_worker_submit_names_the_command_that_starts_one(program: Program, broker: Broker) -> None:
    said = program.done("submit", "echo", "-p", "message=x", "--queue", "images")
    assert "no live worker runs echo of queue images" in said.err
    assert "tqctl worker start --queues images" in said.err
    assert "no live worker" not in program.done("submit", "echo", "-p", "message=x").err


def test_submit_tells_which_setting_a_worker_lacks_for_the_handler(program: Program, broker: Broker) -> None:
    mail = row("mail", needs=["smtp"])
    info = {"name": "box-1", "queues": ["default"], "handlers": [], "lacks": {"mail": ["smtp_url"]}}
    broker.call(worker_calls.register(broker.keys, "wrk_2", lease_ms=60_000, info=info, rows=[mail]))
    said = program.done("submit", "mail")
    assert (
        "no live worker runs mail; it waits. box-1 has it, but smtp_url (TQCTL_SMTP_URL) is not set there" in said.err
    )
    shown = program.done("handler", "show", "mail", "-o", "json").json
    assert (shown["needs"], shown["workers"], shown["lacking"]) == (["smtp"], [], {"box-1": ["smtp_url"]})
    broker.register(mail, worker="wrk_3")
    assert "no live worker" not in program.done("submit", "mail").err


def test_quiet_says_nothing_beside_the_id(program: Program, broker: Broker) -> None:
    assert program.done("submit", "echo", "-p", "message=x", "--queue", "images", "-q").err == ""


def test_a_dry_run_shows_the_task_and_submits_nothing(program: Program, broker: Broker) -> None:
    said = program.done("submit", "echo", "-p", "message=x", "-n", "-o", "json")
    assert said.json["id"] is None
    assert said.json["payload"] == {"message": "x"}
    assert program.run("submit", "echo", "-n").code == 2


def test_a_key_prints_the_first_id_again_and_other_work_under_it_is_a_conflict(
    program: Program, broker: Broker
) -> None:
    words = ("submit", "echo", "--idempotency-key", "k")
    first = program.done(*words, "-p", "message=x").out
    again = program.done(*words, "-p", "message=x")
    assert again.out == first
    assert "already submitted" in again.err
    other = program.run(*words, "-p", "message=y")
    assert other.code == 5
    assert first.strip() in other.err


def test_recorded_without_a_recorder_is_refused_and_queues_nothing(program: Program, broker: Broker) -> None:
    said = program.run("submit", "echo", "-p", "message=x", "--durability", "recorded", "-o", "json")
    assert said.code == 75
    error = json.loads(said.err)["error"]
    assert error["retryable"] is True
    assert error["retry_after"] > 0
    assert "nobody writes the record at the moment" in error["message"]
    assert error["hint"].startswith("tqctl status says why")


def test_without_a_recorder_submit_says_so(program: Program, broker: Broker) -> None:
    assert "not recorded" in program.done("submit", "echo", "-p", "message=x").err
    assert "not recorded" not in program.done("submit", "echo", "-p", "message=x", "--durability", "accepted").err


def test_a_wait_that_ends_first_is_124_and_the_task_goes_on(program: Program, broker: Broker) -> None:
    said = program.run("submit", "echo", "-p", "message=x", "--wait", "--wait-timeout", "50ms")
    assert said.code == 124
    assert said.out == ""
    assert "goes on" in said.err


def test_a_server_that_is_not_there_is_69_with_the_command_to_run(program: Program) -> None:
    program.set(TQCTL_REDIS_URL="redis://127.0.0.1:1")
    said = program.run("submit", "echo", "-p", "message=x")
    assert said.code == 69
    assert "tqctl up" in said.err


def lines(*items: object) -> str:
    return "".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in items)


def test_a_batch_without_lines_is_told(program: Program, broker: Broker) -> None:
    said = program.done("submit", "--batch", "-", stdin="\n\n")
    assert "--batch - held no lines" in said.err
    assert "held no lines" not in program.run("submit", "--batch", "-", stdin="{").err


def test_a_batch_submits_every_line_and_prints_its_id(program: Program, broker: Broker, tmp_path: Path) -> None:
    path = tmp_path / "tasks.ndjson"
    path.write_text(
        lines(
            {"handler": "echo", "payload": {"message": "a"}, "delay": "10m", "tag": {"x": "y"}},
            "",
            {"payload": {"message": "b"}, "param": ["times=2"], "priority": "low"},
            {"handler": "shell", "argv": ["ls", "-l"]},
        )
    )
    said = program.done("submit", "echo", "--batch", str(path), "-o", "name")
    first, second, third = said.lines
    assert broker.task(first).state == "scheduled"
    assert payload_of(broker, second) == {"message": "b", "times": 2}
    assert broker.task(second).priority == 3
    assert payload_of(broker, third) == {"argv": ["ls", "-l"]}
    assert "3 tasks submitted" in said.err


def test_bad_lines_are_told_by_number_and_the_others_run(program: Program, broker: Broker) -> None:
    stdin = lines(
        {"handler": "echo", "payload": {"message": "a"}},
        "{",
        {"handler": "nosuch"},
        {"handler": "echo", "payload": {"message": "b"}, "priorty": 3},
        {"handler": "echo", "payload": [1]},
        {"handler": "echo", "payload": {"message": "b"}, "delay": 5},
        {"handler": "echo"},
        {"handler": "echo", "payload": {"message": "b"}},
    )
    said = program.run("submit", "--batch", "-", "-o", "json", stdin=stdin)
    assert said.code == 7
    assert said.json["submitted"] == 2
    assert [entry["line"] for entry in said.json["refused"]] == [2, 3, 4, 5, 6, 7]
    assert "did you mean priority?" in said.err
    assert "line 3: no handler is called 'nosuch'" in said.err


def test_a_resumed_batch_doubles_nothing(program: Program, broker: Broker) -> None:
    stdin = lines(*({"handler": "echo", "payload": {"message": str(n)}} for n in range(5)))
    batch = program.done("submit", "--batch", "-", stdin=stdin).out.strip()
    rows = [item.split() for item in stdin.splitlines()]
    assert len(rows) == 5
    from tqctl.batch import Batch, Events
    from tqctl.patience import Patience
    from tqctl.sending import open_client, read_catalogue
    from tqctl.wish import Wish
    from tqctl_runtime.config import load_settings

    events = Events(lambda *_: None, lambda *_: None, lambda _: None, lambda: None)
    with open_client(load_settings()) as client:
        import io

        again = Batch(
            client,
            batch,
            Wish(),
            events,
            read_catalogue(client),
            Patience(0, print, is_asked=False),
            durability="accepted",
            limit=10_000,
        )
        report = again.run(io.BytesIO((stdin + lines({"handler": "echo", "payload": {"message": "x"}})).encode()))
    assert (report.submitted, report.repeated) == (1, 5)


def test_batch_lines_are_checked_against_the_types_of_parameters(program: Program, broker: Broker) -> None:
    payloads: list[dict[str, object]] = [
        {"times": "x"},
        {"times": True},
        {"loud": 1},
        {"message": 5},
        {"times": 2, "loud": False},
    ]
    stdin = lines(*({"handler": "echo", "payload": {"message": "a"} | payload} for payload in payloads))
    said = program.run("submit", "--batch", "-", "-o", "json", stdin=stdin)
    assert [entry["line"] for entry in said.json["refused"]] == [1, 2, 3, 4]
    assert "line 1: parameter times of echo is of type int" in said.err
    assert program.done("submit", "--batch", "-", "--unchecked", "-o", "json", stdin=stdin).json["submitted"] == 5


def test_after_a_thousand_bad_lines_the_rest_is_only_counted(program: Program, broker: Broker) -> None:
    said = program.run("submit", "--batch", "-", "-o", "json", stdin="{\n" * 1_200)
    complaints = [line for line in said.err.splitlines() if line.startswith("line ")]
    assert len(complaints) == 1_001
    assert complaints[-1].startswith("line 1001 and more")
    assert len(said.json["refused"]) == 1_200
    told = program.run("submit", "--batch", "-", "-v", stdin="{\n" * 1_200).err
    assert "line 1200: " in told


def test_a_batch_line_may_call_its_tags_tags(program: Program, broker: Broker) -> None:
    stdin = lines({"handler": "echo", "payload": {"message": "a"}, "tags": {"x": "y"}})
    task = broker.task(program.done("submit", "--batch", "-", "-o", "name", stdin=stdin).out.strip())
    assert Envelope.from_bytes(task.envelope).tags == {"x": "y"}


def test_who_asks_for_a_shell_that_nobody_offers_is_told_the_flag(
    program: Program, broker: Broker, valkey: RedisServer
) -> None:
    other = Broker(valkey, f"{broker.namespace}-other")
    other.register(row("echo"))
    program.set(TQCTL_NAMESPACE=other.namespace)
    said = program.run("submit", "shell", "--", "ls")
    assert said.code == 2
    other.wire.close()
    drop_namespace(valkey.url, other.namespace)
    assert "tqctl worker start --allow-shell" in said.err


def test_a_task_that_would_expire_at_once_is_a_mistake(program: Program, broker: Broker) -> None:
    said = program.run("submit", "echo", "-p", "message=x", "--expires", "0s")
    assert said.code == 2
    assert "--expires: it would expire at once" in said.err


def test_a_batch_is_not_resumed_with_another_file(program: Program, broker: Broker) -> None:
    first = [{"handler": "echo", "payload": {"message": str(n)}} for n in range(3)]
    batch = program.done("submit", "--batch", "-", stdin=lines(*first)).out.strip()
    edited = [first[0], {"handler": "echo", "payload": {"message": "other"}}, {"handler": "shell", "argv": ["ls"]}]
    said = program.run("submit", "--batch", "-", "--resume", batch, "-o", "json", stdin=lines(*edited))
    assert said.code == 7
    assert (said.json["submitted"], said.json["repeated"]) == (0, 1)
    assert [entry["line"] for entry in said.json["refused"]] == [2, 3]
    assert "line 2: another task of this batch stands there: not the file it was started with" in said.err


def test_resume_takes_whole_batch_ids_alone(program: Program, broker: Broker) -> None:
    said = program.run("submit", "--batch", "-", "--resume", "bat_NOPE", stdin=lines({"handler": "echo"}))
    assert said.code == 2
    assert "'bat_NOPE' is not a batch id" in said.err
    assert "line 1" not in said.err


def test_a_line_longer_than_the_limit_is_bad_and_the_next_is_read(program: Program, broker: Broker) -> None:
    program.set(TQCTL_PAYLOAD_LIMIT="200")
    stdin = lines(
        {"handler": "echo", "payload": {"message": "x" * 70_000}}, {"handler": "echo", "payload": {"message": "b"}}
    )
    said = program.run("submit", "--batch", "-", "-o", "jsonl", stdin=stdin)
    assert said.code == 7
    assert "line 1: longer than 200 bytes" in said.err
    assert [json.loads(line)["line"] for line in said.lines] == [2]


def test_a_handler_of_another_queue_takes_its_defaults(program: Program, broker: Broker) -> None:
    broker.register(
        row("mail", ("to", "str", None), queue="mails", priority=8, max_retries=1, timeout_s=30),
        queues=("mails",),
        worker="wrk_two",
    )
    task = broker.task(program.done("submit", "mail", "-p", "to=x").out.strip())
    assert (task.queue, task.priority, task.max_retries) == ("mails", 8, 1)
