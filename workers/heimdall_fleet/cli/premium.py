"""What `always premium` would have cost: the dearest default candidate of the hard bucket answers everything."""

from datetime import UTC, datetime

from heimdall_models.catalogue import DEFAULT_CANDIDATES, load_catalogue
from heimdall_schemas.topics import Bucket


def premium_price() -> dict[str, float]:
    """USD per million tokens, input and output, of the dearest priced candidate of the hard bucket."""
    catalogue = load_catalogue(datetime.now(UTC).date())
    rates = [
        facts.price.standard
        for model in DEFAULT_CANDIDATES[Bucket.HARD]
        if (facts := catalogue.facts(model)) is not None and facts.price is not None
    ]
    dearest = max(rates, key=lambda rate: (rate.output, rate.input))
    return {"input": dearest.input / 1e6, "output": dearest.output / 1e6}
