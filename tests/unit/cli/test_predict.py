"""`fyre predict` takes inputs as people have them, and prints one result for each."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from fyretoolkit.cli.main import app
from tests.support.fyre_command import Fyre

REFUSED, MISUSED = 1, 2
DIGIT = json.dumps([0, 0, 5, 13, 9, 1, 0, 0] * 8)


@pytest.fixture
def fyre(fyre: Fyre) -> Fyre:
    """With a model of texts and one of numbers."""
    fyre.act(fyre.bench.deploy, "sentiment-v1")
    fyre.act(fyre.bench.deploy, "digits")
    return fyre


def labels(printed: str) -> list[str]:
    """The column `label` of a table in a pipe."""
    header, *rows = printed.splitlines()
    column = header.split("\t").index("label")
    return [row.split("\t")[column] for row in rows]


def test_texts_are_arguments(fyre: Fyre) -> None:
    """Columns without colour in a pipe; how long it took is beside them, on stderr."""
    result = fyre.run("predict", "sentiment-v1", "I love this!", "Terrible.")
    assert result.exit_code == 0, result.stderr
    assert labels(result.stdout) == ["positive", "negative"]
    assert "\x1b" not in result.stdout
    assert result.stderr.startswith("2 results in ")


def test_an_argument_that_is_json_is_one_input(fyre: Fyre) -> None:
    """Nested numbers; a text with a bracket at its beginning stays one, and so does all with --text."""
    assert labels(fyre.done("predict", "digits", DIGIT)) == ["1"]
    assert len(labels(fyre.done("predict", "sentiment-v1", "[great", '"great"'))) == 2
    assert fyre.run("predict", "sentiment-v1", '["great"]').exit_code == REFUSED
    assert len(labels(fyre.done("predict", "sentiment-v1", "--text", '["great"]'))) == 1


def test_all_inputs_as_one_array(fyre: Fyre) -> None:
    """From the option or from stdin."""
    assert labels(fyre.done("predict", "sentiment-v1", "--inputs", '["good", "bad"]')) == [
        "positive",
        "negative",
    ]
    assert len(labels(fyre.done("predict", "digits", "--inputs", "-", stdin=f"[{DIGIT}, {DIGIT}]"))) == 2


def test_stdin_has_an_input_a_line(fyre: Fyre) -> None:
    """Empty lines are none."""
    assert labels(fyre.done("predict", "sentiment-v1", stdin="good\n\nbad\n")) == ["positive", "negative"]
    assert len(labels(fyre.done("predict", "digits", "-", stdin=f"{DIGIT}\n{DIGIT}\n"))) == 2


def test_a_text_may_hold_what_is_no_newline(fyre: Fyre) -> None:
    """A page break and Unicode's line separators are part of the input; a carriage return before a newline is none."""
    stdin = "good\x0cand\u2028good\r\nbad\x85\n"
    assert labels(fyre.done("predict", "sentiment-v1", stdin=stdin)) == ["positive", "negative"]


def test_json_is_the_answer_of_the_api(fyre: Fyre) -> None:
    answer = fyre.json("predict", "sentiment-v1", "good", "--timeout-ms", "4000")
    assert (answer["object"], answer["model"]) == ("prediction", "sentiment-v1")
    assert answer["results"][0]["label"] == "positive"


def test_an_input_that_does_not_fit(fyre: Fyre) -> None:
    """Is refused with the request's id, or has an error of its own in its place."""
    result = fyre.run("predict", "sentiment-v1", "good", "[3]")
    assert (result.exit_code, result.stdout) == (REFUSED, "")
    assert result.stderr.startswith("invalid_input: ")
    assert "request id: req_" in result.stderr
    answer = fyre.json("predict", "sentiment-v1", "good", "[3]", "--keep-going")
    assert answer["results"][1]["error"]["code"] == "invalid_input"
    assert "invalid_input" in fyre.done("predict", "sentiment-v1", "good", "[3]", "--keep-going")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--inputs", "{"), "not JSON"),
        (("--inputs", '"x"'), "JSON array"),
        (("--inputs", "[]", "x"), "not both"),
        ((), "stdin is empty"),
    ],
)
def test_what_is_no_input_is_misuse(arguments: tuple[str, ...], said: str) -> None:
    """Nothing is asked."""
    result = CliRunner().invoke(app, ["predict", "sentiment-v1", *arguments], input="")
    assert (result.exit_code, result.stdout) == (MISUSED, "")
    assert said in result.stderr


def test_a_model_that_is_not_there(fyre: Fyre) -> None:
    """And an id that is none."""
    assert fyre.run("predict", "no-such-model", "x").stderr.startswith("model_not_found: ")
    assert fyre.run("predict", "..", "x").exit_code == MISUSED
