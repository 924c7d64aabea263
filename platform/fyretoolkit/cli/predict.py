"""`fyre predict`: inputs from the command line, from JSON, or from stdin."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from fyretoolkit.cli.calls import MISUSED, end, platform_client
from fyretoolkit.cli.output import JsonOption, print_json, print_results, say
from fyretoolkit.client import Prediction

_JSON_BEGINS = ("[", "{", '"')


def predict(
    model: Annotated[str, typer.Argument(help="The model's id.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUT]...",
            help="One input each: a text, or JSON (an object of features, nested numbers). Without any, or with -: "
            "one a line from stdin.",
        ),
    ] = None,
    inputs_json: Annotated[
        str | None,
        typer.Option("--inputs", metavar="JSON", help="All inputs as one JSON array; - reads it from stdin."),
    ] = None,
    as_text: Annotated[bool, typer.Option("--text", help="Take inputs as texts, JSON or not.")] = False,
    region: Annotated[str | None, typer.Option(help="Preferred where a deployment is there.")] = None,
    timeout_ms: Annotated[int | None, typer.Option(min=1, help="Deadline of the whole request.")] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="An input that does not fit gets an error of its own.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Ask a model: one result for each input, in order.

    fyre predict sentiment-v1 "I love this!" "Terrible."
    """
    given = _read_inputs(inputs or [], inputs_json, as_text=as_text)
    with platform_client() as client:
        prediction = client.predict(
            model,
            given,
            region=region,
            timeout_ms=timeout_ms,
            on_error="continue" if keep_going else None,
        )
    if as_json:
        print_json(prediction)
    else:
        _print_results(prediction)


def _read_inputs(arguments: list[str], inputs_json: str | None, *, as_text: bool) -> list[Any]:
    if inputs_json is not None:
        if arguments:
            end(MISUSED, "Give inputs as arguments or with --inputs, not both.")
        return _array(sys.stdin.read() if inputs_json == "-" else inputs_json)
    if not arguments or arguments == ["-"]:
        if sys.stdin.isatty():
            end(MISUSED, 'No input. Example: fyre predict sentiment-v1 "I love this!"')
        # A newline alone ends a line: `splitlines` would cut a text at a form feed or a U+2028 in it.
        arguments = [line for line in sys.stdin.read().split("\n") if line.strip()]
        if not arguments:
            end(MISUSED, "No input: stdin is empty.")
    return arguments if as_text else [_input_of(argument) for argument in arguments]


def _array(text: str) -> list[Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        end(MISUSED, f"--inputs is not JSON: {error}.")
    if not isinstance(found, list):
        end(MISUSED, "--inputs takes a JSON array with one item for each prediction.")
    return found


def _input_of(argument: str) -> Any:
    """What begins as JSON and is JSON; else a text."""
    if argument.lstrip().startswith(_JSON_BEGINS):
        try:
            return json.loads(argument)
        except ValueError:
            return argument  # a text that begins with a bracket
    return argument


def _print_results(prediction: Prediction) -> None:
    print_results(prediction.results)
    count = len(prediction.results)
    noun = "result" if count == 1 else "results"
    say(f"{count} {noun} in {prediction.usage.latency_ms:.1f} ms")
