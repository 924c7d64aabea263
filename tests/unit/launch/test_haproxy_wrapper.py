"""What Serve renders for HAProxy is narrowed to loopback before HAProxy reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fyretoolkit.launch import children
from fyretoolkit.launch.haproxy_wrapper import confine

# The lines of Serve's template that matter (ray 2.60, serve/_private/haproxy_templates.py), as rendered.
RENDERED = """global
    log stderr format raw local0 info
    stats socket /tmp/x/s mode 666 level admin expose-fd listeners
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 75s
    timeout server 75s
frontend prometheus
    bind :9101
frontend http_frontend
    bind 127.0.0.1:8000
listen stats
  bind *:8404
  stats enable
"""
CONFINED = """# confined to loopback
global
    log stderr format raw local0 notice
    stats socket /tmp/x/s mode 600 level admin expose-fd listeners
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout http-request 15s
    timeout client 75s
    timeout server 75s
frontend prometheus
    bind 127.0.0.1:9101
frontend http_frontend
    bind 127.0.0.1:8000
listen stats
  bind 127.0.0.1:8404
  stats enable
"""


def test_pages_and_socket_are_narrowed_and_nothing_else_changes() -> None:
    """The whole file, line by line."""
    assert confine(RENDERED) == CONFINED


def test_a_second_rewrite_changes_nothing() -> None:
    """Serve may start HAProxy twice with one file."""
    assert confine(confine(RENDERED)) == CONFINED


@pytest.mark.parametrize("bind", ["    bind 0.0.0.0:8000", "    bind 10.0.0.1:80"])
def test_an_address_that_was_chosen_is_kept(bind: str) -> None:
    """Production mode serves the API on other interfaces; that is the operator's choice."""
    assert bind in confine(f"frontend http_frontend\n{bind}\n")


def test_serve_still_renders_what_is_rewritten_here() -> None:
    """A new Ray whose template reads otherwise must not pass unnoticed."""
    template = _serve_template()
    assert "bind :{{ config.metrics_port }}" in template
    assert "bind *:{{ config.stats_port }}" in template
    assert "mode 666 level admin" in template
    assert "log {{ config.log_target }} local0 info" in template
    assert "{% if config.timeout_connect_s is not none %}timeout connect" in template


def _serve_template() -> str:
    from importlib.metadata import files

    (found,) = [
        file for file in files("ray") or () if str(file).endswith("serve/_private/haproxy_templates.py")
    ]
    return found.read_text()


def test_haproxy_accepts_the_confined_file(tmp_path: Path) -> None:
    """The generated executable rewrites the file it is given and becomes the real HAProxy, which checks it."""
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(RENDERED.replace("/tmp/x/s", str(tmp_path / "s")))
    wrapper = tmp_path / "haproxy"
    children.write_haproxy_wrapper(wrapper)
    done = subprocess.run(
        [wrapper, "-c", "-f", configuration], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "bind 127.0.0.1:8404" in configuration.read_text()
