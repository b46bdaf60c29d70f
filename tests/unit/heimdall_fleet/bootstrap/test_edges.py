import pytest

from heimdall_fleet.bootstrap.edges import producer_settings
from heimdall_fleet.config import Config
from heimdall_fleet.kafka.settings import KafkaSettings


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "zstd"])
def test_a_producer_compresses_as_the_configuration_says(compression: str) -> None:
    config = Config.model_validate({"kafka": {"compression_type": compression}})
    assert producer_settings(KafkaSettings(), config).compression == compression
