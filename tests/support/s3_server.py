"""A real S3 server for the tests: moto's, in a process of its own that ends with them, however they end.

Started as this module, which serves until its standard input is closed: the kernel does that for a killed test run too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from fyretoolkit.settings import PROJECT_ROOT, S3Settings

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What a platform's environment holds; the server takes any."""
_REGION = "us-east-1"


@dataclass(frozen=True)
class S3Server:
    """Where it answers."""

    endpoint: str

    @property
    def settings(self) -> dict[str, Any]:
        """How a configuration names it (`settings.S3Settings`)."""
        return S3Settings(endpoint=self.endpoint, region=_REGION).model_dump()

    def client(self) -> Any:
        """A `pyarrow.fs.S3FileSystem` that may make buckets too."""
        from pyarrow.fs import S3FileSystem

        return S3FileSystem(
            endpoint_override=self.endpoint,
            region=_REGION,
            access_key=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            secret_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            allow_bucket_creation=True,
        )

    def put(self, path: str, content: bytes) -> None:
        """Write an object at `bucket/key`, whose bucket is made where it is missing."""
        client = self.client()
        client.create_dir(path.partition("/")[0], recursive=False)
        with client.open_output_stream(path, metadata={"Content-Type": "application/x-test"}) as stream:
            stream.write(content)


@contextmanager
def running_s3_server() -> Iterator[S3Server]:
    """A server that is answering; its data is gone afterwards."""
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.s3_server"],
            cwd=PROJECT_ROOT,
            env={**os.environ, **CREDENTIALS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            assert port, f"moto's server did not start: {_end_of(log)}"
            yield S3Server(f"http://127.0.0.1:{port}")
        finally:
            process.stdin.close()
            process.wait(60)


def _end_of(log: IO[str]) -> str:
    log.seek(0)
    return log.read()[-2000:]


def _serve() -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    _serve()
