"""What a failure shows of its traceback."""

import pytest

from rlzoo import frames
from rlzoo.config.plain_yaml import load_yaml
from rlzoo.tables import import_named


def raised(function, *args):
    with pytest.raises(Exception) as caught:
        function(*args)
    error = caught.value
    error.__traceback__ = error.__traceback__.tb_next  # not the line above
    return error


def of_user():
    try:
        {}["lost"]
    except KeyError as error:
        raise RuntimeError("the simulator failed") from error


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.delenv("RLZOO_TRACEBACK", raising=False)


def test_frames_of_the_user_are_shown_with_the_errors_that_led_to_them():
    lines = [line.strip() for line in frames.of_user(raised(of_user)).splitlines()]
    assert [line for line in lines if not line.startswith(("File", "^", "~"))] == [
        '{}["lost"]',
        "KeyError: 'lost'",
        'raise RuntimeError("the simulator failed") from error',
    ]


def test_where_only_rlzoo_failed_nothing_is_shown():
    assert frames.of_user(raised(load_yaml, "a: *b", "here")) == ""


def test_the_frames_of_a_module_that_does_not_import(tmp_path, monkeypatch):
    (tmp_path / "broken_for_frames.py").write_text("import os\n\nos.no_such_thing\n")
    monkeypatch.syspath_prepend(tmp_path)
    shown = frames.of_user(raised(import_named, "broken_for_frames:Name", "callback"))
    assert shown.count("File ") == 1 and "broken_for_frames.py" in shown and "line 3" in shown


def test_all_frames_are_shown_where_they_are_asked_for(monkeypatch):
    monkeypatch.setenv("RLZOO_TRACEBACK", "1")
    shown = frames.of_user(raised(load_yaml, "a: *b", "here"))
    assert "plain_yaml.py" in shown and shown.rstrip().splitlines()[-1].startswith(
        "ValueError: here"
    )
