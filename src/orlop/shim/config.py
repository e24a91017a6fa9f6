"""A bundle's config.json."""

import json
import os
from typing import cast

from orlop.errors import InvalidArgumentError
from orlop.model.oci import Config


def read_config(bundle: str) -> Config:
    """Return a bundle's config.json; InvalidArgumentError where there is none."""
    path = os.path.join(bundle, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            return cast("Config", json.load(file))
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"cannot read {path}: {error}") from error
