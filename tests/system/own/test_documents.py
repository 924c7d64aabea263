"""Documents whose commands start and end the platform, on one of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import SHORTENED
from tests.support.documents import carry_out, documents_that_end_it
from tests.support.platform import RunningPlatform

pytestmark = pytest.mark.system


@pytest.mark.parametrize("document", documents_that_end_it(is_wanted=True))
def test_a_document_does_what_it_says(
    document: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """From the start of a platform to its end, which the document has to have."""
    copy = RunningPlatform.in_folder(tmp_path_factory.mktemp("documents"), SHORTENED)
    try:
        carry_out(document, copy, tmp_path)
        assert copy.processes() == []
    finally:
        copy.down()
