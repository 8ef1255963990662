"""Tells what is to be delivered: whatever differs between a packaged template and what is deployed.

    python -m deploy.plan packaged.json --stack aiva-chat [--only stream_chat,create_chat]

Code lies in the bucket under the hash of its content, so the same code is the same text. A run that never came, or was
overtaken by a newer one, is made up for by the next: nothing depends on which push it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection
from pathlib import Path

from deploy.stack import Stack
from deploy.template import Template, load, with_code, without_code
from deploy.units import UNITS, unit_named


def units_to_deliver(packaged: Template, deployed: Template, only: Collection[str] = ()) -> list[str]:
    """Return the names of the units that differ, in the order of delivery, `stack` (all but code) first.

    With `only`, nothing else is returned, whether it differs or not.

    Raises:
        LookupError: a name in `only` is no unit.
    """
    for name in only:
        if name != "stack":
            unit_named(name)
    normal = _with_shift_of(packaged, deployed)
    differing = ["stack"] if without_code(packaged, normal) != normal else []
    differing += [unit.name for unit in UNITS if with_code(normal, packaged, unit) != normal]
    return [name for name in differing if not only or name in only]


def _with_shift_of(packaged: Template, deployed: Template) -> Template:
    """Return the deployed template with the gradual shift of the packaged one: a roll-back at once is no difference."""
    result = deployed
    for unit in UNITS:
        result = with_code(result, deployed, unit, shift_from=packaged)
    return result


def main() -> None:
    """Print the units as a JSON list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packaged", type=Path, help="the template as `sam package --use-json` wrote it")
    parser.add_argument("--stack", required=True)
    parser.add_argument("--only", default="", help="names, joined by commas")
    arguments = parser.parse_args()
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    only = [name.strip() for name in arguments.only.split(",") if name.strip()]
    try:
        deployed = Stack(arguments.stack, "", boto3.client("cloudformation"), None).template()
        print(json.dumps(units_to_deliver(load(arguments.packaged.read_text()), deployed, only)))
    except (BotoCoreError, ClientError, LookupError) as error:
        sys.exit(f"plan: {error}")


if __name__ == "__main__":
    main()
