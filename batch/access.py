"""Whose job it is that a script of the cluster makes: the organization of the API key in its environment.

Ray's token lets whoever holds it run any code as the platform's user, so this is no fence; it keeps honest
scripts to their own organization, by the rules of the API: the same keys, the same scope.
"""

from __future__ import annotations

import hmac
import time

from fyretoolkit.core.api_keys import DEMO_KEY_ID, KeyStatus, key_digest, key_id_of
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.organizations import DEMO_ORG, Scope
from fyretoolkit.settings import Settings
from fyretoolkit.store.api_keys import ApiKeyStore
from fyretoolkit.store.connection import Store

KEY_VARIABLE = "FYRE_API_KEY"


async def find_organization(store: Store, settings: Settings, key: str | None) -> str:
    """The organization of a key that may make jobs; without one the demo organization, in development mode.

    Raises:
        PlatformError: `invalid_api_key`, `insufficient_scope`, `unavailable`.
    """
    if not key:
        if settings.is_development:
            return DEMO_ORG
        raise PlatformError(
            "invalid_api_key",
            f"No API key. Set {KEY_VARIABLE} to a key with the scope {Scope.WRITE}, for a submitted job with "
            f'--runtime-env-json \'{{"env_vars": {{"{KEY_VARIABLE}": "sk_live_…"}}}}\'.',
        )
    key_id = key_id_of(key)
    if key_id is None or (key_id == DEMO_KEY_ID and not settings.is_development):
        raise _refused()
    found = await ApiKeyStore(store).credential(key_id)
    is_same = found is not None and hmac.compare_digest(key_digest(key), found.key.digest)
    if found is None or not is_same or found.key.status(time.time()) is not KeyStatus.ACTIVE:
        raise _refused()
    if not settings.is_development and DEMO_ORG in (found.key.org, found.created_by):
        raise _refused()
    if Scope.WRITE not in found.key.scopes:
        raise PlatformError("insufficient_scope", f"The key in {KEY_VARIABLE} lacks the scope {Scope.WRITE}.")
    return found.key.org


def _refused() -> PlatformError:
    return PlatformError(
        "invalid_api_key", f"The key in {KEY_VARIABLE} does not work here. Take another, or unset it."
    )
