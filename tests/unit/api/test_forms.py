"""Forms: any bytes in, the same bytes out, wherever the chunks end."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fyretoolkit.api.forms import FileForm
from fyretoolkit.core.errors import PlatformError

BOUNDARY = "X-b"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
HEAD = b'--X-b\r\nContent-Disposition: form-data; name="file"; filename="rows.csv"\r\n\r\n'
TAIL = b"\r\n--X-b--\r\n"
DELIMITER = re.compile(rb"\r\n--X-b(\r\n|--|[ \t])")

# Content made of what a boundary is made of, so that near misses are common.
near_boundaries = st.lists(
    st.sampled_from([b"\r", b"\n", b"-", b"X", b"b", b"\r\n--X-", b"\r\n--X-bX", b"\x00", b"--X-b--"])
).map(b"".join)


def parsed(body: bytes, cuts: list[int], content_type: str = CONTENT_TYPE) -> tuple[bytes, str | None]:
    """The content and the name of the file in a form whose chunks end at `cuts`."""
    form = FileForm(content_type)
    ends = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    content = b"".join(b"".join(form.feed(body[start:end])) for start, end in pairwise(ends))
    form.finish()
    return content, form.filename


@given(content=st.one_of(st.binary(), near_boundaries), cuts=st.lists(st.integers(min_value=0)))
def test_the_content_survives_any_chunks(content: bytes, cuts: list[int]) -> None:
    """Unless it holds the boundary itself, which no form may."""
    assume(not DELIMITER.search(b"\r\n" + content + b"\r\n"))
    assert parsed(HEAD + content + TAIL, cuts) == (content, "rows.csv")


def test_every_single_byte_may_come_alone() -> None:
    content = b"a\r\n--X-\r\r\n--X-bb\r\n-"
    body = HEAD + content + TAIL
    assert parsed(body, list(range(len(body)))) == (content, "rows.csv")


def test_what_lies_behind_the_form_is_no_content() -> None:
    """RFC 2046 allows an epilogue."""
    assert parsed(HEAD + b"x" + TAIL + b"more\r\n", [])[0] == b"x"


def test_megabytes_are_handed_on_as_they_come() -> None:
    """The form keeps nothing back but a beginning of a boundary."""
    content = os.urandom(5_000_000)
    form = FileForm(CONTENT_TYPE)
    body, fed, given_back = HEAD + content + TAIL, 0, 0
    for start in range(0, len(body), 65_536):
        fed += len(body[start : start + 65_536])
        given_back += sum(map(len, form.feed(body[start : start + 65_536])))
        assert fed - given_back <= len(HEAD) + len(TAIL) + len(BOUNDARY) + 4
    form.finish()
    assert given_back == len(content)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('name="file"; filename="a b.csv"', "a b.csv"),
        ("name=file; filename=plain.csv", "plain.csv"),
        ('filename="first.csv"; name="file"', "first.csv"),
        ('name="file"; filename="q\\"uote.csv"', 'q"uote.csv'),
        ('name="file"; filename="über.csv"', "über.csv"),
        ('name="file"; filename=""', ""),
        ('name="file"', None),
    ],
)
def test_the_name_is_read_as_browsers_write_it(header: str, name: str | None) -> None:
    body = f"--X-b\r\ncontent-disposition: form-data; {header}\r\nContent-Type: text/csv\r\n\r\nx".encode()
    assert parsed(body + TAIL, []) == (b"x", name)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 71,
        'multipart/form-data; boundary="ends with a space "',
        "multipart/form-data; boundary=a\x00b",
    ],
)
def test_a_boundary_that_is_none_is_refused(content_type: str) -> None:
    with pytest.raises(PlatformError, match="no valid boundary"):
        FileForm(content_type)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "before its closing boundary"),
        (HEAD + b"cut off", "before its closing boundary"),
        (HEAD[:30], "before its closing boundary"),
        (b"text", "its own boundary"),
        (b"--other\r\n", "its own boundary"),
        (b"--X-b--\r\n", "no part of that name"),
        (HEAD + b"x\r\n" + HEAD + b"y" + TAIL, "several parts"),
        (HEAD.replace(b"file;", b"other;").replace(b'"file"', b'"other"') + b"x" + TAIL, "Unknown part"),
        (b"--X-b\r\nContent-Type: text/csv\r\n\r\nx" + TAIL, "Content-Disposition"),
        (b'--X-b\r\nContent-Disposition: attachment; name="file"\r\n\r\nx' + TAIL, "Content-Disposition"),
        (HEAD[:-2] + b"Content-Transfer-Encoding: base64\r\n\r\nx" + TAIL, "Transfer-Encoding"),
        (HEAD[:-2] + b"X: " + b"y" * 40_000 + b"\r\n\r\nx" + TAIL, "body"),
        (HEAD[:-2] + b"X: y\r\n" * 5_000 + b"\r\nx" + TAIL, "body"),
        (HEAD[:-2] + b"a space: y\r\n\r\nx" + TAIL, "its own boundary"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_anything_but_one_file_is_refused(body: bytes, said: str, chunk: int) -> None:
    with pytest.raises(PlatformError) as caught:
        parsed(body, list(range(0, len(body), chunk)))
    assert caught.value.code == "invalid_request"
    assert said in caught.value.message


@given(st.binary(max_size=300), st.lists(st.integers(min_value=0), max_size=10))
def test_no_bytes_are_a_defect(body: bytes, cuts: list[int]) -> None:
    """Whatever is sent, it is a form or a 400."""
    for sent in (body, HEAD + body, b"--X-b\r\n" + body):
        with suppress(PlatformError):
            parsed(sent, cuts)
