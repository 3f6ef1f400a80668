"""Settings: which source wins, what is refused, and how errors name the place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tqctl_runtime.config import (
    Resolved,
    format_value,
    has_password,
    known_contexts,
    load_settings,
    mask_url,
    parse_size,
    resolve,
)
from tqctl_runtime.core.errors import ConfigError, UsageError
from tqctl_runtime.core.settings import SETTING_FIELDS


class Place:
    """A folder with a project file, a user file and an environment of its own."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "project"
        self.folder.mkdir()
        self.environ = {"HOME": str(root), "XDG_CONFIG_HOME": str(root / "conf"), "XDG_DATA_HOME": str(root / "data")}

    def project(self, text: str) -> Path:
        path = self.folder / "tqctl.toml"
        path.write_text(text)
        return path

    def user(self, text: str) -> Path:
        path = Path(self.environ["XDG_CONFIG_HOME"]) / "tqctl" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def resolve(self, **flags: object) -> Resolved:
        return resolve(flags, environ=self.environ, folder=self.folder)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_without_any_source_defaults_hold_and_home_is_in_the_data_folder(place: Place) -> None:
    resolved = place.resolve()
    assert resolved.settings.concurrency == 5
    assert resolved.settings.context_home == Path(place.environ["XDG_DATA_HOME"]) / "tqctl" / "default"
    assert set(resolved.origins.values()) == {"default"}


def test_flags_beat_environment_beats_project_beats_user(place: Place) -> None:
    place.user('lease = "11s"\ngrace = "11s"\ndrain = "11s"\nconcurrency = 11')
    place.project('lease = "12s"\ngrace = "12s"\ndrain = "12s"')
    place.environ.update(TQCTL_LEASE="13s", TQCTL_GRACE="13s")
    resolved = place.resolve(lease="14s")
    settings = resolved.settings
    assert (settings.lease, settings.grace, settings.drain, settings.concurrency) == (14_000, 13_000, 12_000, 11)
    assert resolved.origins["lease"] == "flag: --lease"
    assert resolved.origins["grace"] == "environment: TQCTL_GRACE"
    assert resolved.origins["drain"].endswith("project/tqctl.toml: drain")
    assert resolved.origins["concurrency"].endswith("tqctl/config.toml: concurrency")


def test_a_context_of_either_file_beats_values_that_hold_for_all(place: Place) -> None:
    place.user('[contexts.prod]\nnamespace = "live"')
    place.project('namespace = "mine"\nlease = "9s"')
    assert place.resolve(context="prod").settings.namespace == "live"
    assert place.resolve(context="prod").settings.lease == 9_000
    assert place.resolve().settings.namespace == "mine"


def test_the_file_may_choose_the_context_and_the_flag_wins(place: Place) -> None:
    place.project('context = "a"\n[contexts.a]\n[contexts.b]')
    assert place.resolve().settings.context == "a"
    place.environ["TQCTL_CONTEXT"] = "b"
    assert place.resolve().settings.context == "b"
    assert place.resolve(context="default").settings.context == "default"
    assert known_contexts(place.environ, place.folder) == ["a", "b", "default"]


def test_an_unknown_context_is_refused_with_the_nearest_name(place: Place) -> None:
    place.project("[contexts.production]")
    with pytest.raises(ConfigError) as caught:
        place.resolve(context="prodution")
    assert "prodution" in caught.value.message
    assert caught.value.hint == "did you mean production?"


def test_an_unknown_key_names_the_file_and_the_nearest_key(place: Place) -> None:
    path = place.project('redis_ulr = "redis://x"')
    with pytest.raises(ConfigError) as caught:
        place.resolve()
    assert str(path) in caught.value.message
    assert "redis_ulr" in caught.value.message
    assert "redis_url" in (caught.value.hint or "")


def test_an_unknown_key_of_a_context_names_its_table(place: Place) -> None:
    place.project('[contexts.prod]\nnamespase = "x"')
    with pytest.raises(ConfigError, match=r"\[contexts.prod\]: namespase"):
        place.resolve(context="prod")


def test_a_misspelt_variable_is_refused_and_a_foreign_one_is_not(place: Place) -> None:
    place.environ["TQCTL_TEST_REDIS_URL"] = "redis://x"
    place.environ["TQCTL_SOMETHING_OF_MY_OWN"] = "1"
    assert place.resolve().settings.redis_url is None
    place.environ["TQCTL_REDIS_ULR"] = "redis://x"
    with pytest.raises(ConfigError, match="TQCTL_REDIS_ULR") as caught:
        place.resolve()
    assert caught.value.hint == "did you mean TQCTL_REDIS_URL?"


def test_what_handlers_may_need_comes_from_settings_and_the_record_is_always_somewhere(place: Place) -> None:
    settings = place.resolve().settings
    assert settings.need("smtp") is None
    assert settings.need("db") == f"sqlite:///{settings.context_home}/record.db"
    place.environ |= {"TQCTL_SMTP_URL": "smtp://me:hunter2@h:587", "TQCTL_DATABASE_URL": "postgresql://h/db"}
    resolved = place.resolve().settings
    assert (resolved.need("smtp"), resolved.need("db")) == ("smtp://me:hunter2@h:587", "postgresql://h/db")
    with pytest.raises(UsageError) as caught:
        place.resolve(smtp_url="smtp://me:hunter2@h")
    assert "hunter2" not in f"{caught.value}"
    assert "TQCTL_SMTP_URL" in (caught.value.hint or "")


def test_an_empty_variable_counts_as_absent(place: Place) -> None:
    place.environ["TQCTL_REDIS_URL"] = ""
    assert place.resolve().settings.is_embedded_broker


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('lease = "soon"', "lease: 'soon' is not a duration"),
        ('lease = "1ms"', "is not between 1s and 1d"),
        ("concurrency = 0", "is not between 1 and 1000"),
        ("concurrency = true", "not a whole number"),
        ("concurrency = 2.5", "not a whole number"),
        ('payload_limit = "big"', "is not a size"),
        ('allow_shell = "perhaps"', "neither true nor false"),
        ('log_format = "xml"', "not one of text, json"),
        ('namespace = "a b"', "is not a name"),
        ('redis_url = "http://x"', "does not begin with redis://"),
        ('smtp_url = "mail.example.com:25"', "does not begin with smtp://"),
        ("app = [1]", "is not a list of words"),
        ("contexts = 3", "contexts is not a table"),
        ('[contexts]\nprod = "x"', "contexts.prod is not a table"),
        ("lease = ", "tqctl.toml:"),
    ],
)
def test_a_wrong_value_is_refused_with_file_and_key(place: Place, line: str, said: str) -> None:
    path = place.project(line)
    with pytest.raises(ConfigError) as caught:
        place.resolve()
    assert str(path) in caught.value.message
    assert said in caught.value.message


def test_values_of_every_kind_are_understood(place: Place) -> None:
    place.project(
        'lease = "1m30s"\npayload_limit = "2MiB"\nlog_limit = 1000\nallow_shell = true\napp = ["a.b", "c.py"]\n'
        'queues = "x, y"\nhome = "~/tq"'
    )
    settings = place.resolve().settings
    assert settings.lease == 90_000
    assert settings.payload_limit == 2 * 2**20
    assert settings.log_limit == 1000
    assert settings.allow_shell
    assert settings.app == ("a.b", "c.py")
    assert settings.queues == ("x", "y")
    assert settings.home == Path("~/tq").expanduser()


def test_variables_inside_of_values_are_filled_in(place: Place) -> None:
    place.project('redis_url = "redis://:${REDIS_WORD}@host"')
    place.environ["REDIS_WORD"] = "s3cret"
    assert place.resolve().settings.redis_url == "redis://:s3cret@host"
    del place.environ["REDIS_WORD"]
    with pytest.raises(ConfigError, match=r"redis_url: \$\{REDIS_WORD\} is not in the environment"):
        place.resolve()


def test_a_secret_may_lie_in_a_file_of_its_own(place: Place) -> None:
    secret = place.folder / "url"
    secret.write_text("redis://:p$w{x}@host\n")
    place.environ["TQCTL_REDIS_URL_FILE"] = str(secret)
    resolved = place.resolve()
    assert resolved.settings.redis_url == "redis://:p$w{x}@host"
    assert resolved.origins["redis_url"] == "environment: TQCTL_REDIS_URL_FILE"
    place.environ["TQCTL_REDIS_URL"] = "redis://other"
    with pytest.raises(ConfigError, match="give one of them"):
        place.resolve()
    secret.unlink()
    del place.environ["TQCTL_REDIS_URL"]
    with pytest.raises(ConfigError, match="cannot be read"):
        place.resolve()


def test_a_password_on_the_command_line_is_refused_without_repeating_it(place: Place) -> None:
    with pytest.raises(UsageError) as caught:
        place.resolve(redis_url="redis://:hunter2@host")
    assert "hunter2" not in caught.value.message + (caught.value.hint or "")
    assert "TQCTL_REDIS_URL" in (caught.value.hint or "")
    assert place.resolve(redis_url="redis://host:6379/1").settings.redis_url == "redis://host:6379/1"


def test_a_wrong_flag_is_a_usage_error_that_names_it(place: Place) -> None:
    with pytest.raises(UsageError, match="--lease: 'x' is not a duration"):
        place.resolve(lease="x")


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://:secret@host:1/2", "redis://:***@host:1/2"),
        ("postgresql://me:pa:ss@host/db", "postgresql://me:***@host/db"),
        ("postgresql://host/db?password=x&y=1", "postgresql://host/db?password=***&y=1"),
        ("redis://:secret@more@host:1/2", "redis://:***@host:1/2"),
        ("postgresql://me:se@k/ret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:a/b?c#d e@host/db", "postgresql://me:***@host/db"),
        ("redis://host:6379", "redis://host:6379"),
    ],
)
def test_passwords_are_masked_wherever_a_url_can_hold_one(url: str, masked: str) -> None:
    assert mask_url(url) == masked
    assert has_password(url) == (masked != url)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("redis_url", "redis://:secretpart@more@127.0.0.1:6379/0"),
        ("redis_url", "redis://:12/more@127.0.0.1:6379/0"),
        ("database_url", "postgresql://postgres:se@k/more@127.0.0.1/xx"),
        ("database_url", "postgresql://postgres:se?more#x@127.0.0.1/xx"),
    ],
)
def test_an_unescaped_mark_in_a_password_is_refused_without_repeating_the_url(
    place: Place, name: str, url: str
) -> None:
    place.environ[f"TQCTL_{name.upper()}"] = url
    with pytest.raises(ConfigError) as caught:
        place.resolve()
    assert "more" not in str(caught.value) + caught.value.message + (caught.value.hint or "")
    assert "%40" in (caught.value.hint or "")


def test_marks_that_are_escaped_or_in_a_path_are_no_mistake(place: Place) -> None:
    place.environ["TQCTL_REDIS_URL"] = "redis://us%40er:p%2Fw%40x@host:6379/0"
    place.environ["TQCTL_DATABASE_URL"] = "sqlite:////home/me@work/record.db"
    assert place.resolve().settings.redis_url == "redis://us%40er:p%2Fw%40x@host:6379/0"
    place.environ["TQCTL_REDIS_URL"] = "unix:///run/a@b.sock"
    assert place.resolve().settings.redis_url == "unix:///run/a@b.sock"


def test_every_default_survives_being_written_and_read_again(place: Place) -> None:
    settings = place.resolve().settings
    for name in SETTING_FIELDS:
        text = format_value(name, getattr(settings, name))
        if text and name != "context":
            assert getattr(place.resolve(**{name: text}).settings, name) == getattr(settings, name), name


def test_sizes_are_decimal_or_binary() -> None:
    assert (parse_size("10MB"), parse_size("1KiB"), parse_size("1.5kb"), parse_size(7)) == (10_000_000, 1024, 1500, 7)


def test_a_file_that_does_not_exist_costs_no_toml_parser(place: Place) -> None:
    code = (
        "import sys; from tqctl_runtime.config import load_settings; load_settings(); "
        "sys.exit('tomllib' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place.folder,
        env={**place.environ, "PYTHONPATH": ":".join(sys.path)},
        check=False,
    )
    assert done.returncode == 0


def test_load_settings_reads_the_folder_it_is_told(place: Place) -> None:
    place.project("concurrency = 7")
    assert load_settings(environ=place.environ, folder=place.folder).concurrency == 7
