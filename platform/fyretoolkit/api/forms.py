"""`multipart/form-data` with one file in it, read as it arrives.

Starlette's form parser spools each file itself, which would be a second copy of an upload of gigabytes, so this stands
on the parser below it: python-multipart, which gives the slices of each part and keeps nothing. Source: RFC 7578.
"""

from __future__ import annotations

import re

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from fyretoolkit.core.errors import PlatformError
from fyretoolkit.schemas.errors import invalid_field

PART = "file"
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_MAX_HEADER_BYTES = 16 << 10
_MAX_SHOWN_CHARS = 100
_PLAIN_ENCODINGS = ("", "7bit", "8bit", "binary")


class FileForm:
    """The one file of a form: `feed` every chunk of the body, then `finish`."""

    def __init__(self, content_type: str) -> None:
        """Raises `invalid_request` for a header without a usable boundary."""
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not _BOUNDARY.fullmatch(boundary):
            raise _malformed(
                "the Content-Type has no valid boundary. Let the HTTP client write that header itself"
            )
        self.filename: str | None = None
        """The file's own name as it was sent, once its headers have arrived; None if it has none."""
        self._content: list[bytes] = []
        self._headers: dict[str, bytearray] = {}
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._header_bytes = 0
        self._has_file = False
        self._is_whole = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._extend_name,
                "on_header_value": self._extend_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_content,
                "on_part_data": self._extend_content,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> list[bytes]:
        """The slices of the file that `chunk` holds.

        Raises:
            PlatformError: `invalid_request`: this is no form, or it holds something else than one file.
        """
        self._content = []
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _malformed(
                "it does not follow its own boundary. Send it with curl -F file=@PATH"
            ) from error
        return self._content

    def finish(self) -> None:
        """The body ended.

        Raises:
            PlatformError: `invalid_request`: before the form did, or without a file.
        """
        if not self._is_whole:
            raise _malformed("it ends before its closing boundary. Send it again")
        if not self._has_file:
            raise _no_file("The form has no part of that name.")

    def _begin_part(self) -> None:
        self._headers = {}
        self._header_bytes = 0

    def _extend_name(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._header_name += data[start:end]

    def _extend_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._header_value += data[start:end]

    def _count(self, header_bytes: int) -> None:
        self._header_bytes += header_bytes
        if self._header_bytes > _MAX_HEADER_BYTES:
            raise _malformed(f"the headers of a part are longer than {_MAX_HEADER_BYTES} bytes")

    def _end_header(self) -> None:
        self._headers[self._header_name.decode("latin-1").lower()] = self._header_value
        self._header_name, self._header_value = bytearray(), bytearray()

    def _begin_content(self) -> None:
        kind, options = parse_options_header(self._header("content-disposition"))
        name = _text(options.get(b"name", b""))
        if kind != b"form-data" or not name:
            raise _malformed('a part has no header Content-Disposition: form-data; name="file"')
        if name != PART:
            raise invalid_field(name[:_MAX_SHOWN_CHARS], "Unknown part. Send one part, named file.")
        if self._has_file:
            raise _no_file("The form has several parts of that name.")
        if self._header("content-transfer-encoding").strip().lower() not in _PLAIN_ENCODINGS:
            raise _no_file("The part has a Content-Transfer-Encoding.")
        self._has_file = True
        given = options.get(b"filename")
        self.filename = None if given is None else _text(given)

    def _header(self, name: str) -> str:
        return self._headers.get(name, bytearray()).decode("latin-1")

    def _extend_content(self, data: bytes, start: int, end: int) -> None:
        self._content.append(data[start:end])

    def _end(self) -> None:
        self._is_whole = True


def _text(sent: bytes) -> str:
    return sent.decode("utf-8", "replace")


def _malformed(why: str) -> PlatformError:
    return invalid_field("body", f"The form cannot be read: {why}.")


def _no_file(why: str) -> PlatformError:
    return invalid_field(PART, f"{why} Send one part, named file, as it is: curl -F file=@PATH")
