"""Writes what is generated from the code: the OpenAPI document, the error page, and the synchronous client."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import SecretStr

from fyretoolkit.api.app import create_app
from fyretoolkit.api.catalogue import error_page
from fyretoolkit.api.services import open_services
from fyretoolkit.serving.replica import ReplicaCall
from fyretoolkit.settings import PROJECT_ROOT, Settings
from scripts.twins import synchronous_modules

DOCUMENT = PROJECT_ROOT / "configs" / "openapi.json"
CLIENT = PROJECT_ROOT / "platform" / "fyretoolkit" / "client"
ERROR_PAGE = PROJECT_ROOT / "platform" / "fyretoolkit" / "api" / "ERRORS.md"


class _NoCall(ReplicaCall):
    """The document needs no replica."""

    async def forget(self, applications: frozenset[str]) -> None:
        """Nothing is kept."""


async def _no_state() -> dict[str, str]:
    return {}


def document() -> str:
    """The OpenAPI document of this code; no server is asked for it."""
    settings = Settings(home=Path("unused"), redis_url=SecretStr("unix:///unused"))
    app = create_app(open_services(settings, _NoCall(), _no_state))
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write them, or with --check say which of them is not what the code says; then 1."""
    pages = {DOCUMENT: document(), ERROR_PAGE: error_page(), **synchronous_modules(CLIENT)}
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        if "--check" in arguments:
            print(f"{path.relative_to(PROJECT_ROOT)} is not what the code says: run scripts/describe")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(pages[path], "utf-8")
            print(f"wrote {path.relative_to(PROJECT_ROOT)}")
    return int("--check" in arguments and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
