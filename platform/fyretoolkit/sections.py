"""What sections of the settings are made of, and the section of webhooks; `settings.py` puts all of them together."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
Delay = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A part of `configs/platform.yaml`: frozen, and a name that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WebhookSettings(Section):
    """How webhooks are sent (`core.webhooks`)."""

    pauses_s: tuple[Delay, ...] = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
    """Before each attempt after the first, which is made at once; from the end of the attempt before."""
    jitter: float = Field(default=0.1, ge=0, le=1)
    """A pause is longer by up to this share of it."""
    max_retry_after_s: Seconds = 86_400
    """The longest that a receiver's Retry-After is honoured."""
    timeout_s: Seconds = 15
    """Of one attempt, everything together."""
    max_sending: Positive = 100
    """Attempts under way at once; each organization may have a part of what is left, and its own limits."""
    max_sending_per_organization: Positive = 32
    max_sending_per_receiver: Positive = 8
    """Of one organization to one host and port."""
