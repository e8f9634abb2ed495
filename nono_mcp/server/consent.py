"""How a person's yes is asked for: one box to tick."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def _untitled(schema: dict[str, Any]) -> None:
    # Codex takes a schema with a title for none, and says no in the person's place.
    schema.pop("title", None)
    schema.pop("description", None)


class Agreement(BaseModel):
    """Whether the person agrees."""

    model_config = ConfigDict(json_schema_extra=_untitled)

    agreed: bool = Field(title="Agree", description="Yes lets it be done")


UNASKED = Agreement(agreed=True)
"""What stands for an answer where nobody is asked."""
