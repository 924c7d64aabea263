"""A bootstrap for clusters whose nodes are all on this machine: one proxy, on the head, since they share its ports."""

from __future__ import annotations

import sys

from fyretoolkit.control import bootstrap

if __name__ == "__main__":
    bootstrap.PROXY_LOCATION = "HeadOnly"
    sys.exit(bootstrap.main())
