"""What can go wrong with Kafka, by what the caller may conclude.

KafkaFailure
├── NeverSent          the record is certainly not in the log
│   ├── RecordTooLarge
│   ├── UnknownTopic
│   ├── UnknownPartition
│   └── ProducerFull
├── DeliveryRefused    the broker refused exactly this record
├── DeliveryUnknown    nobody knows: the record may or may not be in the log
├── Unreadable         a partition's records cannot be fetched or decoded
├── BrokerUnavailable  no broker answered in time
├── NotAMember         the group no longer counts this consumer; nothing may be committed
└── NotOurs            another member has the record now, and will bring it to its end
"""

from collections.abc import Sequence

from heimdall_fleet.kafka.records import Outgoing


class KafkaFailure(Exception):
    """Kafka could not do what was asked."""


class NeverSent(KafkaFailure):
    """The record was refused before it was sent."""


class RecordTooLarge(NeverSent):
    """The record is above the fleet's own size limit, which lies below the broker's."""


class UnknownTopic(NeverSent):
    """The cluster does not know the topic."""


class UnknownPartition(NeverSent):
    """The topic has fewer partitions than the record asks for."""


class ProducerFull(NeverSent):
    """Too many bytes wait for the broker; the limit keeps memory bounded while it is away."""


class DeliveryRefused(KafkaFailure):
    """The broker refused these records, and would refuse them again; the others of the call are in the log."""

    def __init__(self, message: str, refused: Sequence[Outgoing] = ()) -> None:
        super().__init__(message)
        self.refused = tuple(refused)


class DeliveryUnknown(KafkaFailure):
    """The broker did not confirm the record in time; it may still be, or come to be, in the log."""


class Unreadable(KafkaFailure):
    """The records at a partition's position cannot be fetched or decoded."""


class BrokerUnavailable(KafkaFailure):
    """No broker answered in time."""


class NotAMember(KafkaFailure):
    """The group has expelled this consumer or is rebalancing, so it must not commit."""


class NotOurs(KafkaFailure):
    """The record's partition was given to another member, which will bring the record to its end."""
