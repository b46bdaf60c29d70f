import pytest

from heimdall_fleet.bootstrap.edges import closed_labels, producer_settings
from heimdall_fleet.config import Config
from heimdall_fleet.kafka.settings import KafkaSettings


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "zstd"])
def test_a_producer_compresses_as_the_configuration_says(compression: str) -> None:
    config = Config.model_validate({"kafka": {"compression_type": compression}})
    assert producer_settings(KafkaSettings(), config).compression == compression


def test_the_links_of_configured_chains_may_be_labels() -> None:
    config = Config.model_validate({"dispatch": {"fallbacks": {"gpt-4o": ["mine/own-model"]}}})
    assert "mine/own-model" in closed_labels(config)["models"]
